package smtp

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

const (
	// maxIdle is how many unused connections a sink keeps if it has its own pool.
	maxIdle = 8
	// maxCommand is the length of the longest command, in octets, with CRLF (RFC 5321
	// §4.5.3.1.4). It applies to AUTH, too (RFC 4954 §4): Postfix cuts an access token of
	// 1.5 KB there, but not in the response to a challenge.
	maxCommand = 512
	// quitSilence is how long a server may take to answer QUIT.
	quitSilence = 5 * time.Second
	// noTimeout turns off the deadlines of go-smtp: package remote sets better ones.
	noTimeout = 1000 * time.Hour
)

// session is a connection to the server, greeted and logged in.
type session struct {
	sink   *Sink
	conn   net.Conn // of package remote
	client *gosmtp.Client
	login  *remote.Login // its secrets are masked in replies; nil if there was no login
	// mailAccepted says that the server has accepted MAIL for the last message. If
	// the connection breaks after that, the message may be the reason.
	mailAccepted bool
	// mayBeStale says that the session was idle or has sent a message before, so that
	// the server may hang up for a reason that is not the next message.
	mayBeStale bool
	// rcptWithoutLogin says that the server has answered a RCPT without asking for a
	// login: it does not require one for all mail.
	rcptWithoutLogin bool
}

// acquireSession returns the idle session that was used last, or a new one.
func (s *Sink) acquireSession(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.o.Server.Fail("connect", context.Cause(ctx))
	}
	if ss, ok := s.o.Pool.Take(s).(*session); ok {
		return ss, nil
	}
	return s.connect(ctx)
}

// releaseSession gives a session to the pool, to be used again.
func (s *Sink) releaseSession(ss *session) {
	ss.mayBeStale = true
	s.o.Pool.Keep(s, ss, s.o.Idle)
	if s.closed.Load() {
		s.o.Pool.Quit(s)
	}
}

// connect opens a session. Its error is a *deliver.Error.
func (s *Sink) connect(ctx context.Context) (*session, error) {
	conn, err := s.o.Server.Connect(ctx)
	if err != nil {
		return nil, s.o.Server.Fail("connect", err)
	}
	ss := &session{sink: s, conn: conn}
	stop := remote.BindContext(ctx, conn)
	defer stop()
	if err := ss.handshake(ctx); err != nil {
		s.o.Server.ForgetTLSSession()
		_ = ss.conn.Close()
		return nil, err
	}
	return ss, nil
}

// handshake does all that comes before the first message: the greeting, STARTTLS, EHLO and
// the login. Its error is a *deliver.Error.
func (ss *session) handshake(ctx context.Context) error {
	s := ss.sink
	server := &s.o.Server
	if err := readGreeting(ss.conn); err != nil {
		return s.openError(err)
	}
	if server.Protection() == remote.StartTLS {
		conn, err := s.startTLS(ctx, ss.conn)
		if err != nil {
			return s.openError(err)
		}
		ss.conn = conn
	}
	// go-smtp expects a greeting, which was read already.
	w := &wire{Conn: ss.conn, out: []byte("220 here\r\n"), hello: s.helloVerb() + " " + s.o.Hello + "\r\n"}
	if ss.client = gosmtp.NewClient(w); s.o.LMTP {
		ss.client = gosmtp.NewClientLMTP(w)
	}
	ss.client.CommandTimeout, ss.client.SubmissionTimeout = noTimeout, noTimeout
	if err := ss.client.Hello(s.o.Hello); err != nil {
		return s.openError(asReplyError(s.helloVerb(), err))
	}
	if slices.ContainsFunc(s.to, needsUTF8) && !ss.offers("SMTPUTF8") {
		return s.refuse("send to an address with letters beyond ASCII", "the server does not know SMTPUTF8: use addresses in ASCII")
	}
	if server.User == "" {
		return nil
	}
	if err := ss.logIn(ctx); err != nil {
		return s.openError(err)
	}
	return nil
}

// logIn logs in by the strongest mechanism that both sides have.
func (ss *session) logIn(ctx context.Context) error {
	_, offered := ss.client.Extension("AUTH")
	login, name, err := ss.sink.o.Server.Mechanism(ctx, ss.conn, strings.Fields(offered))
	ss.login = login
	if err != nil {
		return err
	}
	return login.Do(ctx, func() error {
		login.LimitInitialResponse(maxCommand - len("AUTH "+name+" \r\n"))
		return asReplyError("AUTH", maskSecrets(login, ss.client.Auth(login)))
	})
}

// openError returns the *deliver.Error of a session that could not be opened.
func (s *Sink) openError(err error) error {
	e := s.o.Server.Fail("connect", err)
	r, ok := errors.AsType[*ReplyError](err)
	switch {
	case !ok || errors.Is(err, remote.ErrNotEncrypted):
	case !r.isPermanent():
		e.Fault, e.Hint = deliver.FaultTemporary, ""
	case r.Verb == "AUTH":
		e.Fault, e.Hint = deliver.FaultOperator, s.o.Server.LoginHint(passwordHint)
	case r.Verb == s.helloVerb() && (r.Code == 500 || r.Code == 502): // RFC 5321 §4.2.4
		e.Fault, e.Hint = deliver.FaultOperator, "the server does not know "+r.Verb+": is this SMTP where the sink has lmtp, or LMTP where it has smtp?"
	case r.blamesHello():
		e.Fault, e.Hint = deliver.FaultOperator, helloHint
	default:
		e.Fault, e.Hint = deliver.FaultOperator, allMailHint
	}
	return e
}

// offers reports whether the server has announced an extension.
func (ss *session) offers(extension string) bool {
	ok, _ := ss.client.Extension(extension)
	return ok
}

// Quit sends QUIT and closes the connection. It implements remote.Session.
func (ss *session) Quit() {
	remote.SetTimeout(ss.conn, quitSilence)
	if ss.client.Quit() != nil {
		ss.hangUp()
	}
}

// hangUp closes the connection without QUIT.
func (ss *session) hangUp() { _ = ss.conn.Close() }
