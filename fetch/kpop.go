package fetch

import (
	"context"
	"errors"
	"net"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/kpop"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// kpopName is what a login by KPOP is called.
const kpopName = "kpop"

// authenticateKPOP identifies the user to the server by Kerberos, before the greeting.
func (s *Server) authenticateKPOP(ctx context.Context, conn net.Conn) error {
	ctx, cancel := channel.Within(ctx, s.silence())
	defer cancel()
	err := kpop.Authenticate(ctx, conn, *s.KPOP)
	switch {
	case err == nil:
		return nil
	case isKerberos(err):
		return &LoginError{Addr: s.Addr(), User: s.KPOP.User, Mechanism: kpopName, Err: err}
	default:
		return &ConnectError{Addr: s.Addr(), Err: &greetingError{err}}
	}
}

// openMaildrop is the login that remains after Kerberos has identified the user: USER, and
// PASS with the user's name in place of a password.
func (a *Account) openMaildrop(ctx context.Context, c *pop3proto.Client) error {
	if err := c.Login(ctx, a.User, a.User); err != nil {
		return &LoginError{Account: a.Name, Addr: a.Server.Addr(), User: a.User, Mechanism: kpopName, Err: err}
	}
	return nil
}

// isKerberos reports whether an error is about Kerberos and not about the connection.
func isKerberos(err error) bool {
	_, _, ok := adviseKerberos(err)
	return ok || errors.Is(err, mech.ErrUnproven)
}

// adviseKerberos covers what can be wrong with a ticket.
func adviseKerberos(err error) (Class, string, bool) {
	if e, ok := errors.AsType[*mech.TicketError](err); ok {
		if e.Temporary() {
			return ClassRetry, e.Hint(), true
		}
		return ClassOperator, e.Hint(), true
	}
	if e, ok := errors.AsType[*kpop.RefusedError](err); ok {
		return ClassOperator, e.Hint(), true
	}
	if errors.Is(err, kpop.ErrNotKPOP) {
		return ClassOperator, "is this where the provider has KPOP? protocol: pop3 is for a server without Kerberos", true
	}
	if e, ok := errors.AsType[*LoginError](err); ok && e.Mechanism == kpopName {
		if reply, ok := errors.AsType[*pop3proto.ReplyError](err); ok {
			class, hint := adviseReply(reply, "the server does not let the owner of the ticket into this maildrop: check user")
			return class, hint, true
		}
	}
	return 0, "", false
}
