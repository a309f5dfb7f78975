package config

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Server is a mail server that a sink delivers to.
type Server struct {
	// Addr is host:port, or the absolute path of a UNIX socket.
	Addr string
	Security
	Via
	Login // its User is empty if the server asks for no login
	// Timeout is the longest silence of the server; 0 is the default of the sink.
	Timeout time.Duration
}

// SMTP is a sink that delivers to a mail server by SMTP or LMTP.
type SMTP struct {
	Server
	LMTP bool
	// Hello is the name in EHLO or LHLO; empty is this machine's.
	Hello string
	// To are the recipients of all messages; if it is nil, the account's route names
	// them.
	To []string
	// Sender replaces the envelope sender of the messages; NullSender makes it "<>".
	Sender     string
	NullSender bool
}

// IMAP is a sink that appends messages to a folder of an IMAP server.
type IMAP struct {
	Server
	// Folder is the folder's name; empty is INBOX.
	Folder string
	// Create says to create the folder if it does not exist.
	Create bool
	Flags  []string
}

// serverKinds has, for each kind of sink that is a server, an example of a host and the
// default ports.
var serverKinds = map[string]struct {
	example         string
	plain, implicit int // implicit is the port for implicit TLS
}{
	"smtp": {"mail.example.com", 25, 465},
	"lmtp": {"mail.example.com", 24, 24},
	"imap": {"imap.example.com", 143, 993},
}

// maxSocketPath is the longest path of a UNIX socket, in bytes: sun_path of
// sockaddr_un has 104 on some systems.
const maxSocketPath = 103

// hostSlashPort matches a host and a port as fetchmail has them.
var hostSlashPort = regexp.MustCompile(`^([\w.-]*[A-Za-z0-9])/(\d+)$`)

// readServer completes the server of a sink of the given kind, and checks it.
func (p *parser) readServer(v value, kind string, lines keyLines, f *sinkSettings) Server {
	s := f.server
	s.Timeout, s.TokenCommand.timeout = f.timeout, s.Password.timeout
	p.checkConflicts(v, lines)
	p.loadClientCertificate(v, lines, &s.Security)
	p.checkLogin(v, lines)
	p.checkAuth(v, lines, &s.Login)
	if addr, ok := f.deferred[kind]; ok { // otherwise the key is misspelt, which is reported
		p.readServerAddr(v, addr, kind, lines, &s)
	}
	return s
}

// readServerAddr reads the address of the server from the value addr of the sink v.
func (p *parser) readServerAddr(v, addr value, kind string, lines keyLines, s *Server) {
	text, ok := p.text(addr)
	hostPort := hostSlashPort.FindStringSubmatch(text)
	switch {
	case !ok:
	case hostPort != nil:
		p.fail(addr, "write "+hostPort[1]+":"+hostPort[2]+", or ./"+text, "%s is neither a host and a port nor the path of a socket", quote(text))
	case strings.ContainsAny(text, "/~$") && !strings.Contains(text, "://"):
		p.readSocket(v, addr, lines, s)
	default:
		p.readServerHost(v, addr, kind, lines, s)
	}
}

// readSocket reads the path of a UNIX socket, which needs no TLS.
func (p *parser) readSocket(v, addr value, lines keyLines, s *Server) {
	s.TLS = TLSNone
	var ok bool
	if s.Addr, ok = p.path(addr); ok && len(s.Addr) > maxSocketPath {
		p.fail(addr, "choose a shorter one", "the path of a socket has %d bytes at most", maxSocketPath)
	}
	for _, key := range slices.Concat(tlsKeys, viaKeys) {
		if lines.has(key) {
			p.fail(v.at(lines[key]), "leave it out", "%s has no effect with a UNIX socket", key)
		}
	}
}

// readServerHost reads host[:port], and chooses TLS and the port if they are not set.
func (p *parser) readServerHost(v, addr value, kind string, lines keyLines, s *Server) {
	ports := serverKinds[kind]
	host, port, ok := p.readHostPort(addr, ports.example, ports.implicit)
	if !ok {
		return
	}
	hint := ""
	if !lines.has("tls") {
		s.TLS, hint = defaultTLS(kind, host, port, s.Via), "to this machine tls is none unless it is set"
	}
	switch {
	case port != 0:
	case s.TLS == TLSImplicit:
		port = ports.implicit
	default:
		port = ports.plain
	}
	s.Addr = net.JoinHostPort(host, strconv.Itoa(port))
	p.rejectTLSKeys(v, lines, s.TLS, hint)
}

// defaultTLS returns how the connection to a server is protected if tls is not set: as
// the port implies, and in the clear only where nobody can listen in.
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

// leavesMachine reports whether a connection to a loopback address leaves this machine
// for certain, because a proxy on another machine makes it.
func (v Via) leavesMachine() bool {
	if v.SOCKS5 == nil {
		return false
	}
	host, _, err := net.SplitHostPort(v.SOCKS5.Addr)
	return err == nil && !isLoopback(host)
}

// isLoopback reports whether a host is this machine, by its name or a loopback address.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// checkLogin checks that a user and credentials come together.
func (p *parser) checkLogin(v value, lines keyLines) {
	switch has := hasCredentials(lines); {
	case has && !lines.has("user"):
		p.fail(v, "", "user is missing")
	case !has && lines.has("user") && !lines.has("tls_cert"):
		p.failNoCredentials(v)
	case !has && lines.has("auth") && !lines.has("user"):
		p.fail(v.at(lines["auth"]), "", "auth has no effect without user")
	}
}

// readAddresses reads the recipients and the sender of an SMTP sink.
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
			p.fail(v.at(sender.line), "keep one of them", "both sender and null_sender are set")
		}
		if addr, ok := p.text(sender); ok && p.checkAddress(sender, addr, false) {
			s.Sender = addr
		}
	}
}

// checkAddress checks a mail address. It may be a local part alone if allowLocal is set.
func (p *parser) checkAddress(v value, s string, allowLocal bool) bool {
	local, domain, found := strings.Cut(s, "@")
	if local == "" || len(s) > 254 || strings.ContainsAny(s, " \t<>,;") || found && domain == "" || !found && !allowLocal {
		p.fail(v, "write me@example.com", "%s is not an address", quote(s))
		return false
	}
	return true
}
