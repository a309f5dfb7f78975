package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// checklist writes the findings of mailhaul check, one below the other: pass and fail
// write one that is in order or not, and detail a line below it. The methods that are
// called report… write findings, those called show… details.
type checklist struct {
	out   io.Writer
	paint paintFunc
}

func newChecklist(out io.Writer) checklist { return checklist{out, painter(isTerminal(out))} }

func (l *checklist) pass(format string, args ...any) {
	fmt.Fprintf(l.out, "  %s %s\n", l.paint(green, "✓"), fmt.Sprintf(format, args...))
}

func (l *checklist) fail(text, hint string) {
	fmt.Fprintf(l.out, "  %s %s\n", l.paint(red, "✗"), clean(text))
	if hint != "" {
		l.detail("hint: %s", hint)
	}
}

func (l *checklist) detail(format string, args ...any) {
	fmt.Fprintf(l.out, "      %s\n", fmt.Sprintf(format, args...))
}

// reportServer reports the steps of a check of a server that succeeded, and err, which
// ended it.
func (l *checklist) reportServer(a *fetch.Account, r fetch.Report, err error, now time.Time) {
	if len(r.Addrs) > 0 && net.ParseIP(a.Server.Host) == nil {
		l.pass("%s is %s", a.Server.Host, strings.Join(r.Addrs, ", "))
	}
	if via := a.Server.Via.String(); via != "" {
		l.pass("by way of %s", via)
	}
	if r.Greeting != "" || r.TLS != nil {
		l.pass("connected to %s: %q", a.Server.Addr(), r.Greeting)
		l.reportTLS(a, r.TLS, now)
		l.showCapabilities("before login", r.Before)
		l.showLoginChoice(a, r.Choice)
	}
	if len(r.After.Lines()) > 0 || err == nil {
		l.pass("logged in as %s by %s", a.User, r.Choice.Mechanism)
		l.showCapabilities("after login", r.After)
	}
	if err != nil {
		l.fail(err.Error(), fetch.Hint(err))
		l.showRejectedCertificate(err, now)
		return
	}
	l.reportMaildrop(a, r)
}

// reportMaildrop reports what is on the server and what a fetch would do with it.
func (l *checklist) reportMaildrop(a *fetch.Account, r fetch.Report) {
	ids := "with unique-ids"
	if !r.UIDL {
		ids = "without unique-ids: messages are told apart by their headers"
	}
	l.pass("%s, %s, %s", count(r.Listed, "message"), size(r.Octets), ids)
	done := "delivered"
	if a.Filter != nil && a.Filter.Drops() {
		done = "delivered or dropped"
	}
	l.detail("a fetch would download %d (%s) and delete %d that were %s before", r.Fetch, size(r.FetchOctets), r.Delete, done)
	left := func(n int, why string) {
		if n > 0 {
			l.detail("%d %s", n, why)
		}
	}
	left(r.Kept, "kept on the server, as keep says")
	left(r.Waiting, "refused before, tried again later")
	left(r.Open, "in delivery: a fetch is under way, or was cut off and the next one settles it")
	left(r.TooLarge, "over max_size")
	l.showExpiry(a.Keep, r)
}

// showExpiry warns of a server that announces to keep messages for a shorter time than
// keep does (EXPIRE, RFC 2449 §6.7).
func (l *checklist) showExpiry(keep fetch.Keep, r fetch.Report) {
	params := slices.Concat(r.After.Params("EXPIRE"), r.Before.Params("EXPIRE"))
	if len(params) == 0 {
		return
	}
	days, err := strconv.Atoi(params[0])
	if err != nil || !keep.Forever && keep.For <= time.Duration(days)*24*time.Hour { // err if it is NEVER
		return
	}
	warning := "whatever keep says, the server may delete a message as soon as it was fetched (EXPIRE 0)"
	if days > 0 {
		warning = fmt.Sprintf("whatever keep says, the server may delete a message after %s (EXPIRE %d)", count(days, "day"), days)
	}
	l.detail("%s", l.paint(yellow, warning))
}

// reportSinks checks the filter of an account, its sinks and its quarantine, reports on
// them, and returns the worst class.
func (l *checklist) reportSinks(ctx context.Context, cfg *config.Config, w *wiring, a config.Account, probes map[string]sinkProbe) fetch.Class {
	class := fetch.ClassFine
	if f := w.account(a).Filter; f != nil {
		class = l.reportSink(ctx, "filter", tilde(strings.Join(a.Filter.Argv, " ")), f.Check())
	}
	names := a.Sinks()
	if a.Quarantine != "" {
		names = append(names, a.Quarantine)
	}
	for _, name := range names {
		l.reportGrant(sinkLogin(*cfg.Sink(name)), w.grants, time.Now())
		text, err := probes[name]()
		class = max(class, l.reportSink(ctx, "sink "+name, text, err))
	}
	return class
}

// reportSink reports on a sink or a filter: with text, or with err if it cannot take
// mail. It returns the class of err.
func (l *checklist) reportSink(ctx context.Context, what, text string, err error) fetch.Class {
	if err == nil {
		l.pass("%s: %s", what, text)
		return fetch.ClassFine
	}
	cutShort := ctx.Err() != nil
	if cutShort {
		err = fetch.ErrCutShort
	}
	class, hint := fetch.ClassOperator, ""
	if _, ok := errors.AsType[*deliver.Error](err); ok || cutShort {
		class, hint = fetch.Classify(err), fetch.Hint(err)
	}
	l.fail(fmt.Sprintf("%s: %v", what, err), hint)
	l.showRejectedCertificate(err, time.Now())
	return class
}

// reportTLS reports on an encrypted connection.
func (l *checklist) reportTLS(a *fetch.Account, cs *tls.ConnectionState, now time.Time) {
	if cs == nil {
		warning := "not encrypted: everyone on the way can read the mail, and change it"
		if a.Server.KPOP != nil {
			warning = "not encrypted: Kerberos says who you are, but everyone on the way can read and change the mail"
		}
		l.detail("%s", l.paint(yellow, warning))
		return
	}
	l.pass("%s, %s", tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite))
	l.showCertificate(cs.PeerCertificates[0], now)
	if a.Server.TLS.InsecureSkipVerify {
		l.detail("trusted by tls_fingerprint alone")
	}
}

// expiresSoon is how long before its end a certificate is worth a warning.
const expiresSoon = 14 * 24 * time.Hour

func (l *checklist) showCertificate(c *x509.Certificate, now time.Time) {
	l.detail("certificate of %s, issued by %s", clean(c.Subject.String()), clean(c.Issuer.String()))
	left := c.NotAfter.Sub(now)
	valid := fmt.Sprintf("valid until %s, %s left", c.NotAfter.Format(time.DateOnly), span(left))
	switch {
	case left < 0:
		valid = l.paint(red, fmt.Sprintf("expired on %s, %s ago", c.NotAfter.Format(time.DateOnly), span(-left)))
	case left < expiresSoon:
		valid = l.paint(yellow, valid+": soon")
	}
	l.detail("%s", valid)
	pins := channel.PinsOf(c)
	l.detail("tls_fingerprint: %v", pins[0])
	l.detail("or, for any certificate with the same key:")
	l.detail("tls_fingerprint: %v", pins[1])
}

// showRejectedCertificate shows the certificate that was not trusted, if that is what err
// is about, so that a person who knows it to be right can pin it.
func (l *checklist) showRejectedCertificate(err error, now time.Time) {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(e.UnverifiedCertificates) > 0 {
		l.showCertificate(e.UnverifiedCertificates[0], now)
	}
	if e, ok := errors.AsType[*channel.PinError](err); ok {
		l.showCertificate(e.Certificate, now)
	}
}

// showCapabilities lists the capabilities of a server (RFC 2449 §5).
func (l *checklist) showCapabilities(when string, caps pop3proto.Capabilities) {
	lines := caps.Lines()
	if len(lines) == 0 {
		l.detail("%s it does not tell what it can do", when)
		return
	}
	for i, line := range lines {
		lines[i] = clean(line)
	}
	l.writeWrapped(when+" it can:", lines, ",")
}

// showLoginChoice shows the logins that the server offers, the one that was chosen, and
// why not the others.
func (l *checklist) showLoginChoice(a *fetch.Account, c fetch.Choice) {
	if len(c.Offered) > 0 {
		var items []string
		for _, name := range c.Offered {
			items = append(items, clean(name))
		}
		l.writeWrapped("logins it offers:", items, ",")
	}
	switch {
	case c.Mechanism == "", a.Server.KPOP != nil:
	case c.Assumed:
		l.detail("%s chosen: the server names none, and most such servers know it", c.Mechanism)
	case len(a.Auth) > 0:
		l.detail("%s chosen: the strongest of those that auth allows", c.Mechanism)
	default:
		l.detail("%s chosen: the strongest that can be used", c.Mechanism)
	}
	l.showUnused(c.Unused)
	switch {
	case !c.Strippable:
	case c.Reveals:
		l.detail("%s", l.paint(yellow, "everyone on the way can read the "+c.Secret()))
	default:
		l.detail("%s", l.paint(yellow, "who changes what the server offers can have the "+c.Secret()+" all the same:"))
		l.detail("%s", l.paint(yellow, fmt.Sprintf("auth: %s leaves no other way", c.Mechanism)))
	}
}

// showUnused lists the logins that were not chosen, grouped by the reason.
func (l *checklist) showUnused(unused []fetch.Unused) {
	var reasons []string
	mechanisms := map[string][]string{} // by reason
	for _, u := range unused {
		if mechanisms[u.Why] == nil {
			reasons = append(reasons, u.Why)
		}
		mechanisms[u.Why] = append(mechanisms[u.Why], clean(u.Mechanism))
	}
	var items []string
	for _, why := range reasons {
		items = append(items, fmt.Sprintf("%s (%s)", strings.Join(mechanisms[why], ", "), why))
	}
	if len(items) > 0 {
		l.writeWrapped("not used:", items, ";")
	}
}

// writeWrapped writes a heading and items in lines of 80 columns.
func (l *checklist) writeWrapped(heading string, items []string, sep string) {
	const columns = 80 - len("      ")
	line := heading
	for i, item := range items {
		if i < len(items)-1 {
			item += sep
		}
		for word := range strings.SplitSeq(item, " ") {
			if len(line)+1+len(word) > columns {
				l.detail("%s", line)
				line = " " // makes two blanks before the word
			}
			line += " " + word
		}
	}
	l.detail("%s", line)
}
