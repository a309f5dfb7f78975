package discover_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch/discover"
	"github.com/mailhaul/mailhaul/fetch/discover/discovertest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// network is a DNS server, and POP3 servers on loopback ports that stand for others.
type network struct {
	t       *testing.T
	dns     *discovertest.DNS
	addrs   map[string]string // from host:port to that on loopback
	roots   *x509.CertPool
	mu      sync.Mutex
	dialled []string
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, dns: discovertest.New(t), addrs: map[string]string{}, roots: x509.NewCertPool()}
}

// srv adds an SRV record for a service of example.org.
func (n *network) srv(service, target string, port, priority int) {
	n.dns.SRV(service, "example.org", target, port, priority)
}

// serve runs a POP3 server that stands for addr, with a certificate for the names.
func (n *network) serve(addr string, starttls bool, names ...string) {
	n.t.Helper()
	cert, ca, err := pop3test.Certificate(pop3test.CertOptions{Hosts: names})
	if err != nil {
		n.t.Fatal(err)
	}
	n.roots.AppendCertsFromPEM(ca)
	s := pop3test.New(pop3test.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	start := s.StartTLS
	if starttls {
		start = s.Start
	}
	if err := start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	n.addrs[addr] = s.Addr()
}

// finder returns a Finder that uses only the network.
func (n *network) finder() *discover.Finder {
	return &discover.Finder{
		Resolver: discovertest.Resolver(n.dns.Addr),
		RootCAs:  n.roots,
		Timeout:  time.Minute, // no test runs into it
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			n.mu.Lock()
			n.dialled = append(n.dialled, addr)
			n.mu.Unlock()
			local, ok := n.addrs[addr]
			if !ok {
				return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
			}
			return new(net.Dialer).DialContext(ctx, network, local)
		},
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name    string
		make    func(n *network)
		address string
		want    string // as show has it, or part of the error
	}{
		{"pop3s", func(n *network) {
			n.srv("pop3s", "mail.example.org.", 1995, 0)
			n.serve("mail.example.org:1995", false, "mail.example.org")
		}, "me@example.org", "mail.example.org:1995 SRV"},
		{"pop3s before pop3, whatever the priority", func(n *network) {
			n.srv("pop3", "a.example.org.", 110, 0)
			n.srv("pop3s", "b.example.org.", 995, 50)
			n.serve("a.example.org:110", true, "a.example.org")
			n.serve("b.example.org:995", false, "b.example.org")
		}, "me@example.org", "b.example.org:995 SRV"},
		{"by priority", func(n *network) {
			n.srv("pop3s", "b.example.org.", 995, 20)
			n.srv("pop3s", "a.example.org.", 995, 10)
			n.serve("a.example.org:995", false, "a.example.org")
			n.serve("b.example.org:995", false, "b.example.org")
		}, "me@EXAMPLE.org", "a.example.org:995 SRV"},
		{"the first does not answer", func(n *network) {
			n.srv("pop3s", "a.example.org.", 995, 10)
			n.srv("pop3s", "b.example.org.", 995, 20)
			n.serve("b.example.org:995", false, "b.example.org")
		}, "me@example.org", "b.example.org:995 SRV"},
		{"pop3 alone", func(n *network) {
			n.srv("pop3s", ".", 0, 0)
			n.srv("pop3", "mail.example.org.", 110, 0)
			n.serve("mail.example.org:110", true, "mail.example.org")
		}, "me@example.org", "mail.example.org:110 starttls SRV"},
		{"not offered", func(n *network) {
			n.srv("pop3s", ".", 0, 0)
			n.srv("pop3", ".", 0, 0)
			n.serve("pop.example.org:995", false, "pop.example.org")
		}, "me@example.org", "example.org says that it has no POP3"},
		{"in another domain", func(n *network) {
			n.srv("pop3s", "pop.example.net.", 995, 0)
			n.serve("pop.example.net:995", false, "pop.example.net")
		}, "me@example.org", "pop.example.net:995 SRV confirm"},
		{"in a domain with the same ending", func(n *network) {
			n.srv("pop3s", "pop.badexample.org.", 995, 0)
			n.serve("pop.badexample.org:995", false, "pop.badexample.org")
		}, "me@example.org", "pop.badexample.org:995 SRV confirm"},
		{"a certificate for the domain, not for the server", func(n *network) {
			n.srv("pop3s", "pop.example.net.", 995, 0)
			n.serve("pop.example.net:995", false, "example.org")
		}, "me@example.org", "no POP3 server was found for example.org; tried pop.example.net:995"},
		{"port 0", func(n *network) {
			n.srv("pop3s", "pop.example.org.", 0, 0)
			n.serve("pop.example.org:995", false, "pop.example.org")
		}, "me@example.org", "pop.example.org:995 guessed"},
		{"guessed", func(n *network) {
			n.serve("pop3.example.org:995", false, "pop3.example.org")
			n.serve("mail.example.org:995", false, "mail.example.org")
		}, "me@example.org", "pop3.example.org:995 guessed"},
		{"guessed, one with a certificate for another name", func(n *network) {
			n.serve("pop.example.org:995", false, "wwn.example.org")
			n.serve("mail.example.org:995", false, "mail.example.org")
		}, "me@example.org", "mail.example.org:995 guessed"},
		{"nothing", func(*network) {}, "me@example.org",
			"no POP3 server was found for example.org; tried pop.example.org:995, pop3.example.org:995, mail.example.org:995"},
		{"known", func(n *network) { n.serve("pop.gmail.com:995", false, "pop.gmail.com") },
			"me@Googlemail.com", "pop.gmail.com:995 known Gmail"},
		{"known, and no POP3", func(*network) {}, "me@icloud.com", "iCloud has no POP3"},
		{"MX of Google", func(n *network) {
			n.dns.MX("example.org", "aspmx.l.google.com.")
			n.serve("pop.gmail.com:995", false, "pop.gmail.com")
		}, "me@example.org", "pop.gmail.com:995 MX confirm Gmail"},
		{"MX of Apple", func(n *network) {
			n.dns.MX("example.org", "mx01.mail.icloud.com.")
		}, "me@example.org", "iCloud has no POP3"},
		{"an internationalized domain", func(n *network) { n.serve("pop.xn--bcher-kva.example:995", false, "pop.xn--bcher-kva.example") },
			"me@bücher.example", "pop.xn--bcher-kva.example:995 guessed"},
		{"a domain alone", func(n *network) { n.serve("pop.example.org:995", false, "pop.example.org") },
			"example.org", "pop.example.org:995 guessed"},
		{"no domain", func(*network) {}, "me", "not a mail address"},
		{"no address", func(*network) {}, "me@", "not a mail address"},
		{"an IP address", func(*network) {}, "me@127.0.0.1", "not a mail address"},
		{"a blank", func(*network) {}, "me@exa mple.org", "not a mail address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			c.make(n)
			s, err := n.finder().Find(t.Context(), c.address)
			got := show(s)
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("got %s, want %s; dialled %v", got, c.want, n.dialled)
			}
		})
	}
}

// show returns a server as one line.
func show(s discover.Server) string {
	text := s.Addr()
	if s.StartTLS {
		text += " starttls"
	}
	text += " " + string(s.From)
	if s.Confirm {
		text += " confirm"
	}
	if s.Provider != nil {
		text += " " + s.Provider.Name
	}
	return text
}

// TestCancel cancels the context while a server does not answer.
func TestCancel(t *testing.T) {
	n := newNetwork(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.addrs["pop.example.org:995"] = l.Addr().String()
	ctx, cancel := context.WithCancelCause(t.Context())
	canceled := errors.New("canceled")
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
		}
		cancel(canceled)
	}()
	if _, err := n.finder().Find(ctx, "me@example.org"); !errors.Is(err, canceled) {
		t.Errorf("error %v, want %v", err, canceled)
	}
}
