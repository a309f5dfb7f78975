// Package discover finds the POP3 server of a mail address. A Finder looks in the list of
// large providers (provider.go), then for SRV records of the domain (RFC 6186, RFC 8314
// §5.1), and then tries the server of the provider that the MX records name, and usual
// host names (dns.go). It accepts only a server that answers, with a certificate that is
// valid for its name (probe.go).
package discover

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Server is a POP3 server that was found.
type Server struct {
	Host string
	Port int
	// StartTLS means STLS (RFC 2595) instead of implicit TLS.
	StartTLS bool
	// From is how the server was found.
	From From
	// Confirm means that the server is in another domain, and that only the
	// DNS, whose answers can be forged, leads to it. A person must confirm it
	// before it gets a password (RFC 6186 §6).
	Confirm bool
	// Provider is who runs the server, nil if that is not known.
	Provider *Provider
}

// Addr returns host:port.
func (s Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// From is how a server was found.
type From string

// The ways to find a server, in the order in which they are tried.
const (
	Known From = "known"   // the server of a large provider
	SRV   From = "SRV"     // by an SRV record of the domain
	MX    From = "MX"      // the server of the provider that receives the domain's mail
	Guess From = "guessed" // by a usual host name
)

// Finder finds servers. The zero value is ready to use.
type Finder struct {
	// Resolver queries the DNS; nil is net.DefaultResolver.
	Resolver *net.Resolver
	// Dial opens connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// RootCAs are the trusted authorities; nil means those of the system.
	RootCAs *x509.CertPool
	// Timeout bounds each probe and each DNS query; 0 is 10 seconds.
	Timeout time.Duration
}

// Find returns the server of an address, or of a domain. The error is a *NoPOP3Error if
// the domain is known to have none, and a *NotFoundError if no server answers.
func (f *Finder) Find(ctx context.Context, address string) (Server, error) {
	domain, err := Domain(address)
	if err != nil {
		return Server{}, err
	}
	if p := providerByDomain(domain); p != nil {
		if p.Host == "" {
			return Server{}, &NoPOP3Error{Domain: domain, Provider: p}
		}
		return f.firstToAnswer(ctx, domain, p.server(Known))
	}
	offered, denied := f.serversBySRV(ctx, domain)
	if denied {
		return Server{}, &NoPOP3Error{Domain: domain}
	}
	if len(offered) > 0 {
		return f.firstToAnswer(ctx, domain, offered...)
	}
	guesses := make([]Server, 0, 4)
	if p := f.providerByMX(ctx, domain); p != nil {
		if p.Host == "" {
			return Server{}, &NoPOP3Error{Domain: domain, Provider: p}
		}
		s := p.server(MX)
		s.Confirm = true
		guesses = append(guesses, s)
	}
	for _, name := range []string{"pop.", "pop3.", "mail."} {
		guesses = append(guesses, Server{Host: name + domain, Port: 995, From: Guess})
	}
	return f.firstToAnswer(ctx, domain, guesses...)
}

// Domain returns the domain of an address, or a domain itself, in lower case and in its
// ASCII form.
func Domain(address string) (string, error) {
	domain := address[strings.LastIndex(address, "@")+1:]
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || ascii == "" || len(ascii) > 253 || !strings.Contains(ascii, ".") || net.ParseIP(ascii) != nil {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	return strings.TrimSuffix(ascii, "."), nil
}

// firstToAnswer returns the first of the servers of a domain, in the order given, that
// answers as it should. It probes all at once, since a dead one can take long.
func (f *Finder) firstToAnswer(ctx context.Context, domain string, servers ...Server) (Server, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make([]chan error, len(servers))
	for i, s := range servers {
		results[i] = make(chan error, 1)
		go func() { results[i] <- f.probe(ctx, s) }()
	}
	notFound := &NotFoundError{Domain: domain}
	for i, s := range servers {
		err := <-results[i]
		if err == nil {
			return s, nil
		}
		notFound.Tried = append(notFound.Tried, Attempt{s, err})
	}
	if err := context.Cause(ctx); err != nil {
		return Server{}, err
	}
	return Server{}, notFound
}

func (f *Finder) timeout() time.Duration { return cmp.Or(f.Timeout, 10*time.Second) }

// Attempt is a server that did not answer as it should.
type Attempt struct {
	Server Server
	Err    error
}

// NotFoundError means that no server was found.
type NotFoundError struct {
	Domain string
	Tried  []Attempt
}

// Error names what was tried.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no POP3 server was found for %s; tried", e.Domain)
	for i, a := range e.Tried {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s", a.Server.Addr())
	}
	return b.String()
}

// NoPOP3Error means that the domain is known to have no POP3 server.
type NoPOP3Error struct {
	Domain string
	// Provider is who runs the domain's mail; nil if its SRV records say so.
	Provider *Provider
}

// Error says that the provider or the domain has no POP3.
func (e *NoPOP3Error) Error() string {
	if e.Provider != nil {
		return e.Provider.Name + " has no POP3"
	}
	return e.Domain + " says that it has no POP3"
}
