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

// world is a DNS, and the servers that its names lead to.
type world struct {
	t       *testing.T
	dns     *discovertest.DNS
	places  map[string]string // where host:port really is
	roots   *x509.CertPool
	mu      sync.Mutex
	dialled []string
}

func newWorld(t *testing.T) *world {
	return &world{t: t, dns: discovertest.New(t), places: map[string]string{}, roots: x509.NewCertPool()}
}

// srv adds a record for a service of example.org.
func (w *world) srv(service, target string, port, priority int) {
	w.dns.SRV(service, "example.org", target, port, priority)
}

// serve runs a POP3 server at host:port, whose certificate is for the names
// given.
func (w *world) serve(addr string, starttls bool, names ...string) {
	w.t.Helper()
	cert, ca, err := pop3test.Certificate(pop3test.CertOptions{Hosts: names})
	if err != nil {
		w.t.Fatal(err)
	}
	w.roots.AppendCertsFromPEM(ca)
	s := pop3test.New(pop3test.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	start := s.StartTLS
	if starttls {
		start = s.Start
	}
	if err := start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	w.places[addr] = s.Addr()
}

// finder asks the world.
func (w *world) finder() *discover.Finder {
	return &discover.Finder{
		Resolver: discovertest.Resolver(w.dns.Addr),
		RootCAs:  w.roots,
		Timeout:  time.Minute, // no server of a test is to be given up
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			w.mu.Lock()
			w.dialled = append(w.dialled, addr)
			w.mu.Unlock()
			place, ok := w.places[addr]
			if !ok {
				return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
			}
			return new(net.Dialer).DialContext(ctx, network, place)
		},
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name    string
		make    func(w *world)
		address string
		want    string // as show has it, or part of the error
	}{
		{"pop3s", func(w *world) {
			w.srv("pop3s", "mail.example.org.", 1995, 0)
			w.serve("mail.example.org:1995", false, "mail.example.org")
		}, "me@example.org", "mail.example.org:1995 SRV"},
		{"pop3s before pop3, whatever the priority", func(w *world) {
			w.srv("pop3", "a.example.org.", 110, 0)
			w.srv("pop3s", "b.example.org.", 995, 50)
			w.serve("a.example.org:110", true, "a.example.org")
			w.serve("b.example.org:995", false, "b.example.org")
		}, "me@example.org", "b.example.org:995 SRV"},
		{"by priority", func(w *world) {
			w.srv("pop3s", "b.example.org.", 995, 20)
			w.srv("pop3s", "a.example.org.", 995, 10)
			w.serve("a.example.org:995", false, "a.example.org")
			w.serve("b.example.org:995", false, "b.example.org")
		}, "me@EXAMPLE.org", "a.example.org:995 SRV"},
		{"the first does not answer", func(w *world) {
			w.srv("pop3s", "a.example.org.", 995, 10)
			w.srv("pop3s", "b.example.org.", 995, 20)
			w.serve("b.example.org:995", false, "b.example.org")
		}, "me@example.org", "b.example.org:995 SRV"},
		{"pop3 alone", func(w *world) {
			w.srv("pop3s", ".", 0, 0)
			w.srv("pop3", "mail.example.org.", 110, 0)
			w.serve("mail.example.org:110", true, "mail.example.org")
		}, "me@example.org", "mail.example.org:110 starttls SRV"},
		{"not offered", func(w *world) {
			w.srv("pop3s", ".", 0, 0)
			w.srv("pop3", ".", 0, 0)
			w.serve("pop.example.org:995", false, "pop.example.org")
		}, "me@example.org", "example.org says that it has no POP3"},
		{"in another domain", func(w *world) {
			w.srv("pop3s", "pop.example.net.", 995, 0)
			w.serve("pop.example.net:995", false, "pop.example.net")
		}, "me@example.org", "pop.example.net:995 SRV confirm"},
		{"in a domain that only ends alike", func(w *world) {
			w.srv("pop3s", "pop.badexample.org.", 995, 0)
			w.serve("pop.badexample.org:995", false, "pop.badexample.org")
		}, "me@example.org", "pop.badexample.org:995 SRV confirm"},
		{"a certificate for the address's domain is none for the server", func(w *world) {
			w.srv("pop3s", "pop.example.net.", 995, 0)
			w.serve("pop.example.net:995", false, "example.org")
		}, "me@example.org", "no POP3 server was found for example.org; tried pop.example.net:995"},
		{"a port that is none", func(w *world) {
			w.srv("pop3s", "pop.example.org.", 0, 0)
			w.serve("pop.example.org:995", false, "pop.example.org")
		}, "me@example.org", "pop.example.org:995 guessed"},
		{"guessed", func(w *world) {
			w.serve("pop3.example.org:995", false, "pop3.example.org")
			w.serve("mail.example.org:995", false, "mail.example.org")
		}, "me@example.org", "pop3.example.org:995 guessed"},
		{"guessed, of a certificate that is not for it", func(w *world) {
			w.serve("pop.example.org:995", false, "www.example.org")
			w.serve("mail.example.org:995", false, "mail.example.org")
		}, "me@example.org", "mail.example.org:995 guessed"},
		{"nothing", func(*world) {}, "me@example.org",
			"no POP3 server was found for example.org; tried pop.example.org:995, pop3.example.org:995, mail.example.org:995"},
		{"known", func(w *world) { w.serve("pop.gmail.com:995", false, "pop.gmail.com") },
			"me@Googlemail.com", "pop.gmail.com:995 known Gmail"},
		{"known, and no POP3", func(*world) {}, "me@icloud.com", "iCloud has no POP3"},
		{"a domain whose mail Google has", func(w *world) {
			w.dns.MX("example.org", "aspmx.l.google.com.")
			w.serve("pop.gmail.com:995", false, "pop.gmail.com")
		}, "me@example.org", "pop.gmail.com:995 MX confirm Gmail"},
		{"a domain whose mail Apple has", func(w *world) {
			w.dns.MX("example.org", "mx01.mail.icloud.com.")
		}, "me@example.org", "iCloud has no POP3"},
		{"another alphabet", func(w *world) { w.serve("pop.xn--bcher-kva.example:995", false, "pop.xn--bcher-kva.example") },
			"me@bücher.example", "pop.xn--bcher-kva.example:995 guessed"},
		{"a domain alone", func(w *world) { w.serve("pop.example.org:995", false, "pop.example.org") },
			"example.org", "pop.example.org:995 guessed"},
		{"no domain", func(*world) {}, "me", "not a mail address"},
		{"no address", func(*world) {}, "me@", "not a mail address"},
		{"an address of a machine", func(*world) {}, "me@127.0.0.1", "not a mail address"},
		{"something else", func(*world) {}, "me@exa mple.org", "not a mail address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.make(w)
			s, err := w.finder().Find(t.Context(), c.address)
			got := show(s)
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("got %s, want %s; dialled %v", got, c.want, w.dialled)
			}
		})
	}
}

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

// TestCancel leaves a server that does not answer.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.places["pop.example.org:995"] = l.Addr().String()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
		}
		cancel(enough)
	}()
	if _, err := w.finder().Find(ctx, "me@example.org"); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}
