package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// checklist writes what was found in order, and what was not.
type checklist struct {
	out   io.Writer
	paint func(colour, text string) string
}

func (l *checklist) good(format string, args ...any) {
	fmt.Fprintf(l.out, "  %s %s\n", l.paint(green, "✓"), fmt.Sprintf(format, args...))
}

func (l *checklist) bad(text, hint string) {
	fmt.Fprintf(l.out, "  %s %s\n", l.paint(red, "✗"), text)
	if hint != "" {
		l.more("hint: %s", hint)
	}
}

func (l *checklist) more(format string, args ...any) {
	fmt.Fprintf(l.out, "      %s\n", fmt.Sprintf(format, args...))
}

// server reports how far a check came with the server, and what stopped it.
func (l *checklist) server(a *fetch.Account, r fetch.Report, err error, now time.Time) {
	if len(r.Addrs) > 0 && net.ParseIP(a.Server.Host) == nil {
		l.good("%s is %s", a.Server.Host, strings.Join(r.Addrs, ", "))
	}
	if via := a.Server.Via.String(); via != "" {
		l.good("by way of %s", via)
	}
	if r.Greeting != "" || r.TLS != nil {
		l.good("connected to %s: %q", a.Server.Addr(), r.Greeting)
		l.tls(a, r.TLS, now)
		l.can("before login", r.Before)
		if len(r.Offered) > 0 {
			l.more("logins it offers: %s", strings.Join(r.Offered, ", "))
		}
	}
	if r.After.All() != nil || err == nil {
		l.good("logged in as %s by %s", a.User, r.Mechanism)
		l.can("after login", r.After)
	}
	if err != nil {
		l.bad(err.Error(), fetch.Hint(err))
		l.rejected(err, now)
		return
	}
	ids := "with unique-ids"
	if !r.UIDL {
		ids = "without unique-ids: messages are told apart by their headers"
	}
	l.good("%s, %s, %s", count(r.Messages, "message"), size(r.Octets), ids)
	l.more("a fetch would download %d (%s) and delete %d that were delivered before", r.ToFetch, size(r.ToFetchOctets), r.ToDelete)
	for _, left := range []struct {
		n   int
		why string
	}{
		{r.Kept, "kept on the server, as keep says"},
		{r.Refused, "refused before, tried again later"},
		{r.TooLarge, "over max_size"},
	} {
		if left.n > 0 {
			l.more("%d %s", left.n, left.why)
		}
	}
}

// tls reports on an encrypted connection.
func (l *checklist) tls(a *fetch.Account, cs *tls.ConnectionState, now time.Time) {
	if cs == nil {
		warning := "not encrypted: everyone on the way can read the password"
		if a.Server.KPOP != nil {
			warning = "not encrypted: Kerberos says who you are, but everyone on the way can read and change the mail"
		}
		l.more("%s", l.paint(yellow, warning))
		return
	}
	l.good("%s, %s", tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite))
	l.certificate(cs.PeerCertificates[0], now)
	if a.Server.TLS.InsecureSkipVerify {
		l.more("trusted by tls_fingerprint alone")
	}
}

// expiresSoon is when the end of a certificate is worth a warning.
const expiresSoon = 14 * 24 * time.Hour

func (l *checklist) certificate(c *x509.Certificate, now time.Time) {
	l.more("certificate of %s, issued by %s", clean(c.Subject.String()), clean(c.Issuer.String()))
	left := c.NotAfter.Sub(now)
	valid := fmt.Sprintf("valid until %s, %s left", c.NotAfter.Format(time.DateOnly), span(left))
	switch {
	case left < 0:
		valid = l.paint(red, fmt.Sprintf("expired on %s, %s ago", c.NotAfter.Format(time.DateOnly), span(-left)))
	case left < expiresSoon:
		valid = l.paint(yellow, valid+": soon")
	}
	l.more("%s", valid)
	pins := channel.PinsOf(c)
	l.more("tls_fingerprint: %v", pins[0])
	l.more("or, for any certificate with the same key:")
	l.more("tls_fingerprint: %v", pins[1])
}

// rejected shows the certificate that an error is about: who knows that it is
// right can pin it.
func (l *checklist) rejected(err error, now time.Time) {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(e.UnverifiedCertificates) > 0 {
		l.certificate(e.UnverifiedCertificates[0], now)
	}
	if e, ok := errors.AsType[*channel.PinError](err); ok {
		l.certificate(e.Certificate, now)
	}
}

// can lists what a server can do (RFC 2449 §5), in lines of 80 columns.
func (l *checklist) can(when string, caps pop3proto.Capabilities) {
	line := when + " it can:"
	if len(caps.All()) == 0 {
		line = when + " it does not tell what it can do"
	}
	const columns = 80 - len("      ")
	for i, c := range caps.All() {
		item := clean(strings.Join(append([]string{c.Name}, c.Params...), " "))
		if i < len(caps.All())-1 {
			item += ","
		}
		if len(line)+1+len(item) > columns {
			l.more("%s", line)
			line = "  " + item
			continue
		}
		line += " " + item
	}
	l.more("%s", line)
}
