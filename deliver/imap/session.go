package imap

import (
	"context"
	"errors"
	"math"
	"os"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// noLimit is the session.limit of a server that names none.
const noLimit = math.MaxInt64

// session is a connection that is logged in. Whoever has the sink's turn, or
// the pool, has it to himself.
type session struct {
	sink    *Sink // who used it last: what is known of the folder is of his
	lastUse int   // Sink.uses then
	client  *imapclient.Client
	wire    *wire
	caps    imap.CapSet // those after the login
	// secrets is what errors must not tell, nil before the login.
	secrets *remote.Login

	// validity is the folder's UIDVALIDITY, and next a UID from which on all
	// were free when it was last asked; both are 0 if the server does not say.
	validity uint32
	next     imap.UID
	// limit is the largest message that the server takes, in octets.
	limit int64
	// single is set once the server refused an APPEND of several messages as if it
	// were too much for it.
	noMultiAppend bool

	// silent is set once the server did not tell which UID a message was given.
	hidesUIDs bool

	// listed is what Settle has seen of a folder.
	listing *listing
}

// acquireSession takes the turn and returns a session that looked at the folder: if ask
// is true, now. The end of ctx breaks it until leave is called. Whoever waited for
// his turn while the server proved to be of no use does not try it again.
func (s *Sink) acquireSession(ctx context.Context, ask bool) (ses *session, leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, s.fail("connect", err)
	}
	came := time.Now()
	select {
	case s.sem <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, s.fail("wait for the connection", context.Cause(ctx))
	}
	// Else all that waited for a server that hangs would wait for it in turn.
	if s.failedAt.After(came) {
		defer func() { <-s.sem }()
		return nil, nil, s.failure
	}
	ses, stop, err := s.reuseSession(ctx, ask)
	if ses == nil && err == nil {
		if ses, stop, err = s.connect(ctx); err != nil {
			s.server.ForgetTLSSession()
			if ctx.Err() == nil {
				s.failedAt, s.failure = time.Now(), err
			}
		}
	}
	if err != nil {
		<-s.sem
		return nil, nil, err
	}
	s.sessionUses++
	ses.lastUse = s.sessionUses
	return ses, func() {
		stop()
		if why := ses.wire.cause(ses.secrets); errors.Is(why, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			s.failedAt, s.failure = time.Now(), s.fail("use the connection", why)
		}
		// The end of ctx breaks the session, if it has not yet.
		if ses.wire.isBroken() || ctx.Err() != nil || s.closed {
			ses.Quit()
		} else {
			s.pool.Keep(s.key, ses, s.idle)
		}
		<-s.sem
	}, nil
}

// reuseSession returns a session that was kept, nil if there is none of use. That
// a server has hung up is often noticed only when it is asked something.
func (s *Sink) reuseSession(ctx context.Context, ask bool) (*session, func(), error) {
	ses, _ := s.pool.Take(s.key).(*session)
	if ses == nil {
		return nil, nil, nil
	}
	var err error
	if !ses.wire.isBroken() {
		stop := remote.BindContext(ctx, ses.wire.Conn)
		if ses.sink != s || ses.lastUse != s.sessionUses { // it knows another folder, or this one as it was
			ses.sink, ses.noMultiAppend, ses.hidesUIDs, ask = s, false, false, true
		}
		if ask {
			err = ses.refreshFolder()
		}
		if err == nil {
			return ses, stop, nil
		}
		stop()
	}
	if ses.wire.isBroken() && ctx.Err() == nil {
		err = nil
	}
	ses.Quit()
	return nil, nil, err
}

// Quit takes leave of the server and hangs up.
func (ses *session) Quit() {
	if !ses.wire.isBroken() {
		remote.SetTimeout(ses.wire.Conn, time.Second)
		_ = ses.client.Logout() // a courtesy: the answer does not matter
	}
	_ = ses.client.Close()
}

// connect opens a session and looks at the folder.
func (s *Sink) connect(ctx context.Context) (ses *session, stop func(), err error) {
	conn, err := s.server.Connect(ctx)
	if err != nil {
		return nil, nil, s.fail("connect", err)
	}
	stop = remote.BindContext(ctx, conn)
	greeting, err := readGreeting(conn)
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, nil, s.fail("wait for the greeting", err)
	}
	if s.server.Protection() == remote.StartTLS {
		secure, err := startTLS(ctx, conn, greeting, &s.server)
		if err != nil {
			stop()
			_ = conn.Close()
			return nil, nil, s.fail("STARTTLS", err)
		}
		// RFC 9051 §6.2.1: what the server said in the clear is forgotten.
		conn, greeting = secure, "* OK"
	}
	ses = &session{sink: s, wire: newWire(conn, greeting+"\r\n")}
	ses.client = imapclient.New(ses.wire, nil)
	if err = ses.client.WaitGreeting(); err != nil {
		err = ses.fail("wait for the greeting", err)
	} else if err = ses.login(ctx); err == nil {
		err = ses.refreshFolder()
	}
	if err != nil {
		stop()
		_ = ses.client.Close()
		return nil, nil, err
	}
	return ses, stop, nil
}

// opLook is what failed if there is no folder.
const opLook = "look at the folder"

// refreshFolder asks how far the folder has come, and creates it if it is missing and
// that is wanted.
func (ses *session) refreshFolder() error {
	if err := ses.closeFolder(); err != nil {
		return err
	}
	err := ses.readStatus()
	refusal, refused := errors.AsType[*imap.Error](err)
	if refused && ses.sink.create && !isOtherThanMissing(refusal.Code) {
		err = ses.client.Create(ses.sink.folder, nil).Wait()
		if code, _ := errors.AsType[*imap.Error](err); code != nil && code.Code == imap.ResponseCodeAlreadyExists {
			err = nil
		}
		if err != nil {
			return ses.fail("create the folder", err)
		}
		// Mail programs show what is subscribed. A folder that they do not
		// show is no reason to keep the mail.
		_ = ses.client.Subscribe(ses.sink.folder).Wait()
		err = ses.readStatus()
	}
	if err == nil {
		return nil
	}
	e := ses.fail(opLook, err)
	if refused && !ses.sink.create {
		// Dovecot gives no code. A LIST that fails leaves the refusal as it is.
		if absent, _ := ses.isMissing(ses.sink.folder, refusal); absent {
			e.Fault, e.Hint = deliver.FaultOperator, hintFolder
		}
	}
	return e
}

// readStatus asks for the state of the folder.
func (ses *session) readStatus() error {
	limit, _ := ses.caps.AppendLimit()
	data, err := ses.client.Status(ses.sink.folder, &imap.StatusOptions{
		UIDNext: true, UIDValidity: true,
		AppendLimit: limit == nil, // RFC 7889 §3: each folder has its own
	}).Wait()
	if err != nil {
		return err
	}
	if limit == nil {
		limit = data.AppendLimit
	}
	ses.limit = noLimit
	if limit != nil && *limit != 0 && *limit != ^uint32(0) {
		ses.limit = int64(*limit)
	}
	ses.validity, ses.next = data.UIDValidity, data.UIDNext
	return nil
}

// closeFolder leaves the folder that Settle has opened: a server keeps the
// selected one in step with each APPEND, and STATUS is not for it (RFC 9051
// §6.3.11). It was opened for reading only, so CLOSE removes nothing.
func (ses *session) closeFolder() error {
	if ses.client.State() != imap.ConnStateSelected {
		return nil
	}
	if err := ses.client.UnselectAndExpunge().Wait(); err != nil {
		return ses.fail("close the folder", err)
	}
	return nil
}
