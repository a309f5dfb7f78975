package config

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Server is a mail server that a sink hands messages to.
type Server struct {
	// Addr is host:port, or the absolute path of a UNIX socket.
	Addr string
	Security
	Via
	// Login is empty if there is none.
	Login
	// Timeout is the longest silence of the server; 0 leaves it to the sink.
	Timeout time.Duration
}

// SMTP is a sink that hands messages to a mail server by SMTP or LMTP.
type SMTP struct {
	Server
	LMTP bool
	// Hello is the name to greet with; empty is this machine's.
	Hello string
	// To are the recipients of all messages; nil leaves them to the route.
	To []string
	// Sender replaces the messages' own, NullSender makes it "<>".
	Sender     string
	NullSender bool
}

// IMAP is a sink that appends messages to a folder of an IMAP server.
type IMAP struct {
	Server
	// Folder is the folder's name; empty is INBOX.
	Folder string
	// Create creates the folder if it is missing.
	Create bool
	Flags  []string
}

// serverKinds are the sinks that are servers, with their ports.
var serverKinds = map[string]struct {
	example         string
	plain, implicit int // the port without TLS from the first byte, and with it
}{
	"smtp": {"mail.example.com", 25, 465},
	"lmtp": {"mail.example.com", 24, 24},
	"imap": {"imap.example.com", 143, 993},
}

// maxSocket is the longest path of a UNIX socket, in bytes: sun_path of
// sockaddr_un has 104 on some systems.
const maxSocketPath = 103

// hostSlashPort is how fetchmail writes a host and a port.
var hostSlashPort = regexp.MustCompile(`^([\w.-]*[A-Za-z0-9])/(\d+)$`)

// sinkServer reads the place of a server, which is the value of the key that
// names the sink's kind, and settles what the other keys, read into s, leave
// open.
func (p *parser) readServer(v, place value, kind string, lines map[string]int, s *Server) {
	p.checkConflicts(v, lines)
	p.loadClientCertificate(v, lines, &s.Security)
	p.checkLogin(v, lines)
	s.TokenCommand.timeout = s.Password.timeout
	p.checkAuth(v, lines, &s.Login)
	if place.node == nil {
		return // the key is misspelled
	}
	text, ok := p.text(place)
	if !ok {
		return
	}
	if m := hostSlashPort.FindStringSubmatch(text); m != nil {
		p.fail(place, "write "+m[1]+":"+m[2]+", or ./"+text, "%s is neither a host and a port nor the path of a socket", quote(text))
		return
	}
	if strings.ContainsAny(text, "/~$") && !strings.Contains(text, "://") {
		s.TLS = TLSNone // it does not leave the machine
		if s.Addr, ok = p.path(place); ok && len(s.Addr) > maxSocketPath {
			p.fail(place, "choose a shorter one", "the path of a socket has %d bytes at most", maxSocketPath)
		}
		for _, key := range slices.Concat(tlsKeys, viaKeys) {
			if line := lines[key]; line > 0 {
				p.fail(value{line: line, where: v.where}, "leave it out", "%s has no effect with a UNIX socket", key)
			}
		}
		return
	}
	ports := serverKinds[kind]
	host, port, ok := p.readHostPort(place, ports.example, ports.implicit)
	if !ok {
		return
	}
	hint := ""
	if lines["tls"] == 0 {
		s.TLS, hint = defaultTLS(kind, host, port, s.Via), "to this machine tls is none unless it is set"
	}
	if port == 0 {
		if port = ports.plain; s.TLS == TLSImplicit {
			port = ports.implicit
		}
	}
	s.Addr = net.JoinHostPort(host, strconv.Itoa(port))
	p.rejectTLSKeys(v, lines, s.TLS, hint)
}

// defaultTLS is how the connection to a server is protected if nothing is
// said: as its port has it, and in the clear only where nobody can listen in.
func defaultTLS(kind, host string, port int, via Via) TLS {
	switch {
	case port == 465 || port == 993 || port == 0 && kind == "imap":
		return TLSImplicit
	case isLoopback(host) && !via.leavesMachine():
		return TLSNone
	default:
		return TLSStart
	}
}

// leaves reports whether what goes by v leaves this machine for certain: by a proxy
// on another, it does so in the clear.
func (v Via) leavesMachine() bool {
	if v.SOCKS5 == nil {
		return false
	}
	host, _, err := net.SplitHostPort(v.SOCKS5.Addr)
	return err == nil && !isLoopback(host)
}

// loopback reports whether a host is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// login checks that a user and what to log in with come together.
func (p *parser) checkLogin(v value, lines map[string]int) {
	switch has := hasCredentials(lines); {
	case has && lines["user"] == 0:
		p.fail(v, "", "user is missing")
	case !has && lines["user"] > 0 && lines["tls_cert"] == 0:
		p.failNoCredentials(v)
	case !has && lines["auth"] > 0 && lines["user"] == 0:
		p.fail(value{line: lines["auth"], where: v.where}, "", "auth has no effect without user")
	}
}

// addresses reads those that a server is told.
func (p *parser) readAddresses(v value, f *sinkSettings) {
	s := &f.smtp
	if to, ok := f.deferred["to"]; ok {
		for _, item := range p.items(to) {
			if addr, ok := p.text(item); !ok || !p.checkAddress(item, addr, s.LMTP) {
				continue
			} else if slices.Contains(s.To, addr) {
				p.fail(item, "", "%s appears twice", quote(addr))
			} else {
				s.To = append(s.To, addr)
			}
		}
	}
	if sender, ok := f.deferred["sender"]; ok {
		if s.NullSender {
			p.fail(value{line: sender.line, where: v.where}, "keep one of them", "both sender and null_sender are set")
		}
		if addr, ok := p.text(sender); ok && p.checkAddress(sender, addr, false) {
			s.Sender = addr
		}
	}
}

// checkAddress checks an address, which may be a local part alone if local
// says so.
func (p *parser) checkAddress(v value, s string, local bool) bool {
	name, domain, found := strings.Cut(s, "@")
	if name == "" || len(s) > 254 || strings.ContainsAny(s, " \t<>,;") || found && domain == "" || !found && !local {
		p.fail(v, "write me@example.com", "%s is not an address", quote(s))
		return false
	}
	return true
}
