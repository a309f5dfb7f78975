package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// The mechanisms of RFC 1939 §7, which are no SASL. APOP is never used unless
// it is named: its MD5 protects no password against a server in the middle
// (CVE-2007-1558), and a server must keep the password in the clear for it.
var (
	userPass = mech.Info{Name: "user", Needs: mech.Password, Reveals: true}
	apop     = mech.Info{Name: "apop", Needs: mech.Password, OnlyNamed: true}
)

// strongest returns the mechanisms for a connection that is encrypted or not, the
// strongest first.
func strongest(encrypted bool) []mech.Info {
	all := mech.Strongest(encrypted)
	insertAfter := func(name string, m mech.Info) {
		i := slices.IndexFunc(all, func(m mech.Info) bool { return m.Name == name })
		all = slices.Insert(all, i+1, m)
	}
	insertAfter("login", userPass)  // which is as good
	insertAfter("digest-md5", apop) // the last that does not reveal the password
	return all
}

// AuthNames are the names that Account.Auth may hold, the strongest first:
// SASL mechanisms in lower case, "user" for USER and PASS, and "apop".
var AuthNames = func() (names []string) {
	for _, m := range strongest(true) {
		names = append(names, m.Name)
	}
	return names
}()

// loginQuirks is what logins have shown about an account's server, so that the next login does
// not begin with the same mistake. It is not stored, because servers change.
type loginQuirks struct {
	twoSteps bool // XOAUTH2 must wait until the server asks for the token
	endPoint bool // SCRAM must bind to the certificate (tls-server-end-point), as the server knows no other binding
}

// errWantsChallenge means that the server wants XOAUTH2 in two steps and got the token at
// once. The connection is of no more use; learned makes the next one right.
var errWantsChallenge = errors.New("the server wants to ask for the token")

// login logs in by the mechanism that was chosen. Once asking has ended, no password
// command or person is asked for a secret any more.
func (a *Account) login(ctx, asking context.Context, c *pop3proto.Client, caps pop3proto.Capabilities, choice Choice) error {
	failed := func(err error) error {
		return &LoginError{Account: a.Name, Addr: a.Server.Addr(), User: a.User, Mechanism: choice.Mechanism, Named: choice.named(), Err: err}
	}
	_, encrypted := c.TLS()
	switch {
	case !encrypted && a.Server.Security != PlainText:
		return failed(errNotEncrypted)
	case a.Server.KPOP != nil:
		return a.openMaildrop(ctx, c)
	case choice.Mechanism == "":
		return failed(&mech.OfferError{Offered: choice.Offered, Allowed: a.Auth})
	}
	cred, err := a.credentials(asking, c, caps, choice.needs)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		return ErrCutShort
	}
	if err != nil {
		return &mech.SecretError{Needs: choice.needs, Err: err}
	}
	c.Hide(cred.Password) // from errors and traces
	c.Hide(cred.Token)
	if caps.Has("UTF8") { // RFC 6856 §2; a refusal changes nothing
		if err := c.UTF8(ctx); err != nil && !isReply(err) {
			return &ConnectError{Addr: a.Server.Addr(), Err: fmt.Errorf("%w, when it was asked for UTF8", err)}
		}
	}
	switch choice.Mechanism {
	case userPass.Name:
		err = c.Login(ctx, a.User, cred.Password)
	case apop.Name:
		err = c.APOP(ctx, a.User, cred.Password)
	default:
		err = a.authenticate(ctx, c, choice.Mechanism, cred)
	}
	if _, refused := errors.AsType[*mech.OAuthError](err); refused && a.TokenRefused != nil {
		a.TokenRefused(cred.Token)
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

// credentials returns what a mechanism that needs such a proof has to know. It may run a
// password command or ask a person.
func (a *Account) credentials(ctx context.Context, c *pop3proto.Client, caps pop3proto.Capabilities, needs mech.Proof) (mech.Credentials, error) {
	cred := mech.Credentials{
		User: a.User, Host: a.Server.Host, Port: a.Server.port(), PlusOffered: mech.OffersPlus(caps.SASL()),
	}
	if cs, encrypted := c.TLS(); encrypted {
		cred.TLS = &cs
	}
	var err error
	switch needs {
	case mech.Certificate:
		cred.Authzid = a.User // a certificate may be good for several users
	case mech.Password:
		cred.Password, err = a.Secret(ctx)
	case mech.Token:
		cred.Token, err = a.Token(ctx)
	case mech.Ticket:
		cred.Kerberos = *a.Kerberos
	}
	return cred, err
}

// authenticate logs in by a SASL mechanism.
func (a *Account) authenticate(ctx context.Context, c *pop3proto.Client, name string, cred mech.Credentials) error {
	cred.EndPoint = a.learned.endPoint
	m, err := mech.New(ctx, name, cred)
	if err != nil {
		return err
	}
	oneStep := name == "xoauth2" && !a.twoSteps()
	if name == "xoauth2" && !oneStep {
		m = mech.WithoutInitialResponse(m)
	}
	err = c.Authenticate(ctx, m)
	switch {
	case !errors.Is(err, pop3proto.ErrBroken) && cred.Rebind(err):
		a.learned.endPoint = cred.EndPoint
		return a.authenticate(ctx, c, name, cred)
	case oneStep && ctx.Err() == nil && wantsTwoSteps(err):
		a.learned.twoSteps = true
		return fmt.Errorf("%w: %w", errWantsChallenge, err)
	case err == nil, errors.Is(err, pop3proto.ErrBroken), ctx.Err() != nil:
		return err
	}
	if _, refused := errors.AsType[*pop3proto.ReplyError](err); refused {
		return err
	}
	return &exchangeError{err}
}

// exchangeError means that a mechanism did not accept what the server said.
type exchangeError struct{ err error }

func (e *exchangeError) Error() string { return e.err.Error() }
func (e *exchangeError) Unwrap() error { return e.err }

// twoSteps reports whether the token of XOAUTH2 must wait until the server asks for it. If
// that is not known of the host, the first login finds out, at the cost of a connection.
func (a *Account) twoSteps() bool {
	return a.learned.twoSteps || isMicrosoft(a.Server.Host)
}

// isMicrosoft reports whether a host is one of Microsoft's, whose POP3 server
// closes the connection on an AUTH XOAUTH2 that brings the token along.
func isMicrosoft(host string) bool {
	host = "." + strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc([]string{".office365.com", ".office365.us", ".office.com", ".outlook.com", ".outlook.cn", ".hotmail.com"},
		func(domain string) bool { return strings.HasSuffix(host, domain) })
}

// wantsTwoSteps reports whether a server refused to take a token in one step, as opposed to
// the token itself. It says so ("Protocol error. Connection is closed"), or hangs up.
func wantsTwoSteps(err error) bool {
	if r, ok := errors.AsType[*pop3proto.ReplyError](err); ok {
		return strings.Contains(strings.ToLower(r.Text), "protocol error")
	}
	return hungUp(err)
}

// hungUp reports whether err is that the server closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// adviseLogin classifies a login that failed for another reason than a plain refusal.
func adviseLogin(err error) (Class, string, bool) {
	if hint := mech.Hint(err); hint != "" {
		return ClassOperator, hint, true
	}
	if errors.Is(err, mech.ErrRefused) {
		return ClassOperator, passwordHint, true
	}
	if errors.Is(err, pop3proto.ErrControl) {
		return ClassOperator, "write user and password anew, each in one line", true
	}
	if _, ok := errors.AsType[*exchangeError](err); ok {
		return ClassOperator, "allow another way to log in with auth, or ask the provider", true
	}
	if e, ok := errors.AsType[*mech.OAuthError](err); ok && e.Reply != nil {
		if login, ok := errors.AsType[*LoginError](err); ok {
			return ClassOperator, login.tokenHint(), true
		}
	}
	return 0, "", false
}

// refusedHint returns what to do if the server says that user or secret are wrong.
func (e *LoginError) refusedHint() string {
	for _, m := range strongest(true) {
		switch {
		case m.Name != e.Mechanism, m.Needs == mech.Password:
		case m.Needs == mech.Token:
			return e.tokenHint()
		default:
			return "the server does not let the owner of the certificate or ticket into this maildrop: check user"
		}
	}
	return passwordHint
}

func (e *LoginError) tokenHint() string {
	return fmt.Sprintf("run mailhaul login %s, with the scope for POP, or check its token_command; some providers want POP3 switched on first", e.Account)
}

// namedHint returns what to do if the server may want a mechanism that is used only if
// auth names it.
func (e *LoginError) namedHint() string {
	return fmt.Sprintf("what else the server offers is used only if it is named: set auth: %s", e.Named[0])
}

// unknownLoginHint is what to do if unknownLogin is true. What else may be wrong follows it.
const unknownLoginHint = "the server may offer a way to log in that it does not know: try another with auth, such as user; else "

// unknownLogin reports whether a server refused the mechanism, and not the user, in words
// that servers use for a command they do not know. Some servers offer mechanisms that they
// no longer have, and some proxies those that they do not pass on.
func unknownLogin(e *pop3proto.ReplyError) bool {
	text := strings.ToLower(e.Text)
	return e.Verb == "AUTH" && slices.ContainsFunc([]string{
		"unknown command", "invalid command", "bad command", "unrecognized", "unrecognised", "unsupported", "not supported",
		"implemented", "mechanism",
	}, func(words string) bool { return strings.Contains(text, words) })
}
