package imap

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// login logs in, unless the server has greeted with PREAUTH, and reads the capabilities.
func (ses *session) login(ctx context.Context) error {
	if ses.client.State() != imap.ConnStateAuthenticated {
		if ses.sink.server.User == "" {
			return ses.sink.refuse("log in", errors.New("the server wants a login"), "set user and a password for the sink")
		}
		if err := ses.authenticate(ctx); err != nil {
			return err
		}
	}
	// imapclient also asks for them, but in the background: the first command could still
	// be sent according to the capabilities before the login.
	var err error
	if ses.caps, err = ses.client.Capability().Wait(); err != nil {
		return ses.fail("read the capabilities", err)
	}
	// A server of both revisions accepts names in UTF-8 only after ENABLE (RFC 9051
	// appendix A), and imapclient sends them without. It is sent even if the name of this
	// folder is in ASCII: another sink may use the connection later, and ENABLE is not
	// allowed any more after a folder was opened (RFC 5161 §3.1).
	if ses.caps.Has(imap.CapIMAP4rev2) {
		if _, err := ses.client.Enable(imap.CapIMAP4rev2).Wait(); err != nil {
			return ses.fail("enable IMAP4rev2", err)
		}
	}
	return nil
}

// authenticate logs in by the strongest mechanism that both sides have. If there is none, it
// uses LOGIN, unless the server forbids that (RFC 9051 §6.2.3).
func (ses *session) authenticate(ctx context.Context) error {
	server := &ses.sink.server
	caps, err := ses.initialCapabilities()
	if err != nil {
		return err
	}
	login, _, err := server.Mechanism(ctx, ses.wire.Conn, caps.AuthMechanisms())
	ses.secrets = login
	_, noMechanism := errors.AsType[*remote.OfferError](err)
	switch {
	case err == nil:
		err = login.Do(ctx, func() error {
			if !caps.Has(imap.CapSASLIR) {
				login.LimitInitialResponse(0)
			}
			return ses.exchangeSASL(login)
		})
	case noMechanism && !caps.Has(imap.CapLoginDisabled) && server.AllowsPassword():
		var password string
		if password, ses.secrets, err = server.Password(ctx); err != nil {
			return ses.sink.fail("log in", err)
		}
		err = ses.client.Login(server.User, password).Wait()
	default:
		return ses.sink.fail("log in", err)
	}
	if err != nil {
		return ses.loginError(err)
	}
	return nil
}

// loginError returns the *deliver.Error of a login that failed. A server may refuse it for a
// reason that is temporary; otherwise the user or the password is wrong.
func (ses *session) loginError(err error) *deliver.Error {
	refusal, refused := errors.AsType[*imap.Error](err)
	if _, byMechanism := errors.AsType[*remote.LoginError](err); byMechanism && !(refused && concernsAllMessages(refusal)) {
		return ses.sink.fail("log in", err)
	}
	if !refused {
		return ses.fail("log in", err)
	}
	e := ses.refusal("log in", refusal)
	if e.Fault == deliver.FaultTemporary && !concernsAllMessages(refusal) {
		e.Fault = deliver.FaultOperator
		e.Hint = ses.sink.server.LoginHint("check the sink's user and password; some providers want a password for this program alone")
	}
	return e
}

// initialCapabilities returns the capabilities before the login; none if the server refuses
// the command. Caps of imapclient waits for half a minute at most, whatever Server.Timeout
// is, and then returns none: that would look as if the server allowed LOGIN. So the command
// is then sent again.
func (ses *session) initialCapabilities() (imap.CapSet, error) {
	if caps := ses.client.Caps(); caps != nil {
		return caps, nil
	}
	caps, err := ses.client.Capability().Wait()
	if _, refused := errors.AsType[*imap.Error](err); err != nil && !refused {
		return nil, ses.fail("read the capabilities", err)
	}
	return caps, nil
}
