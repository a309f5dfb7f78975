// Package discover finds the POP3 server of a mail address: from what is known
// of large providers, from the SRV records of its domain (RFC 6186, RFC 8314
// §5.1), and by trying the names that servers usually have.
//
// It believes a server only behind a certificate that is valid for its name.
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

// Server is a POP3 server that was found, and answers.
type Server struct {
	Host string
	Port int
	// StartTLS means that it wants STLS (RFC 2595), and not TLS from the first
	// byte.
	StartTLS bool
	// From is how it was found.
	From From
	// Confirm means that nothing but an answer of the DNS, which anybody on
	// the way can forge, leads from the address to this server, and that it is
	// in another domain. A person must confirm it before it is sent a password
	// (RFC 6186 §6).
	Confirm bool
	// Provider is whose server it is, nil if that is nobody known.
	Provider *Provider
}

// Addr returns host:port.
func (s Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// From is how a server was found.
type From string

// The ways to find a server, in the order in which they are tried.
const (
	Known From = "known"   // of a large provider
	SRV   From = "SRV"     // the domain says it
	MX    From = "MX"      // the provider that takes the domain's mail has it
	Guess From = "guessed" // by a usual name
)

// Finder finds servers. The zero value is meant to be used.
type Finder struct {
	// Resolver asks the DNS; nil is net.DefaultResolver.
	Resolver *net.Resolver
	// Dial opens connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// RootCAs are the authorities to trust; nil is the system's.
	RootCAs *x509.CertPool
	// Timeout is how long one server or name server may take; 0 is 10 seconds.
	Timeout time.Duration
}

// Find returns the server of an address, or of a domain. If there is none, the
// error is a *NotFoundError, or a *NoPOP3Error if there is none to look for.
func (f *Finder) Find(ctx context.Context, address string) (Server, error) {
	domain, err := Domain(address)
	if err != nil {
		return Server{}, err
	}
	lost := &NotFoundError{Domain: domain}
	if p := byDomain(domain); p != nil {
		if p.Host == "" {
			return Server{}, &NoPOP3Error{Domain: domain, Provider: p}
		}
		return f.first(ctx, lost, p.server(Known))
	}
	offered, denied := f.srv(ctx, domain)
	if denied {
		return Server{}, &NoPOP3Error{Domain: domain}
	}
	if len(offered) > 0 {
		return f.first(ctx, lost, offered...)
	}
	guesses := make([]Server, 0, 4)
	if p := f.byMX(ctx, domain); p != nil {
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
	return f.first(ctx, lost, guesses...)
}

// Domain returns the domain of an address, or one that stands alone, in lower
// case and as the DNS has it.
func Domain(address string) (string, error) {
	domain := address[strings.LastIndex(address, "@")+1:]
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || ascii == "" || len(ascii) > 253 || !strings.Contains(ascii, ".") || net.ParseIP(ascii) != nil {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	return strings.TrimSuffix(ascii, "."), nil
}

// first returns the first of the servers that answers as it should. All are
// tried at once, since a name that leads nowhere can take its time.
func (f *Finder) first(ctx context.Context, lost *NotFoundError, servers ...Server) (Server, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make([]chan error, len(servers))
	for i, s := range servers {
		results[i] = make(chan error, 1)
		go func() { results[i] <- f.try(ctx, s) }()
	}
	for i, s := range servers {
		err := <-results[i]
		if err == nil {
			return s, nil
		}
		lost.Tried = append(lost.Tried, Attempt{s, err})
	}
	if err := context.Cause(ctx); err != nil {
		return Server{}, err
	}
	return Server{}, lost
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

// NoPOP3Error means that the domain has mail, and no POP3.
type NoPOP3Error struct {
	Domain string
	// Provider is whose domain it is; nil if the domain says it of itself.
	Provider *Provider
}

// Error says who has no POP3.
func (e *NoPOP3Error) Error() string {
	if e.Provider != nil {
		return e.Provider.Name + " has no POP3"
	}
	return e.Domain + " says that it has no POP3"
}
