package imap

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// login logs in and reads the capabilities that hold from then on.
func (ses *session) login(ctx context.Context) error {
	preauth := ses.client.State() == imap.ConnStateAuthenticated
	if !preauth {
		if ses.sink.server.User == "" {
			return ses.sink.refuse("log in", errors.New("the server wants a login"), "set user and a password for the sink")
		}
		if err := ses.authenticate(ctx); err != nil {
			return err
		}
	}
	// imapclient asks too, but not before the first command could go out with
	// what it knew before the login.
	var err error
	if ses.caps, err = ses.client.Capability().Wait(); err != nil {
		return ses.fail("read the capabilities", err)
	}
	// A server of both revisions takes names in UTF-8 only once that is
	// enabled (RFC 9051 appendix A); imapclient sends them without. A sink that has the
	// connection later may need it, and once a folder was opened it is too late
	// (RFC 5161 §3.1).
	if ses.caps.Has(imap.CapIMAP4rev2) {
		if _, err := ses.client.Enable(imap.CapIMAP4rev2).Wait(); err != nil {
			return ses.fail("enable IMAP4rev2", err)
		}
	}
	return nil
}

// authenticate uses the best mechanism that both sides know, and else LOGIN,
// unless the server forbids it (RFC 9051 §6.2.3).
func (ses *session) authenticate(ctx context.Context) error {
	server := &ses.sink.server
	caps, err := ses.initialCapabilities()
	if err != nil {
		return err
	}
	login, _, err := server.Mechanism(ctx, ses.wire.Conn, caps.AuthMechanisms())
	ses.secrets = login
	_, none := errors.AsType[*remote.OfferError](err)
	switch {
	case err == nil:
		err = login.Do(ctx, func() error {
			if !caps.Has(imap.CapSASLIR) {
				login.LimitInitialResponse(0)
			}
			return ses.exchangeSASL(login)
		})
	case none && !caps.Has(imap.CapLoginDisabled) && server.AllowsPassword():
		var password string
		if password, ses.secrets, err = server.Password(ctx); err != nil {
			return ses.sink.fail("log in", err)
		}
		err = ses.client.Login(server.User, password).Wait()
	default:
		return ses.sink.fail("log in", err)
	}
	if err == nil {
		return nil
	}
	refusal, ok := errors.AsType[*imap.Error](err)
	if _, ours := errors.AsType[*remote.LoginError](err); ours && !(ok && concernsAllMessages(refusal)) {
		return ses.sink.fail("log in", err)
	}
	if !ok {
		return ses.fail("log in", err)
	}
	e := ses.refusal("log in", refusal)
	if e.Fault == deliver.FaultTemporary && !concernsAllMessages(refusal) {
		e.Fault = deliver.FaultOperator
		e.Hint = server.LoginHint("check the sink's user and password; some providers want a password for this program alone")
	}
	return e
}

// initialCapabilities are what the server offers before the login; one that refuses to
// tell offers nothing. imapclient waits for half a minute, whatever our timeout is,
// and what it then returns looks like a server that forbids nothing.
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
