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

// session is a connection that is logged in. It is used by whoever holds Sink.sem, or else
// kept in the pool.
type session struct {
	sink    *Sink // which used it last; the fields about the folder are of its folder
	lastUse int   // sink.sessionUses at that time
	client  *imapclient.Client
	wire    *wire
	caps    imap.CapSet // the capabilities after the login
	// secrets removes the secrets of the login from errors; nil before the login.
	secrets *remote.Login

	// validity is the folder's UIDVALIDITY, and next a UID from which on no UID was
	// used when the server was last asked. Both are 0 if the server does not say.
	validity uint32
	next     imap.UID
	// limit is the size of the largest message that the server takes, in octets.
	limit int64
	// noMultiAppend says that the server has refused an APPEND of several messages as
	// too large.
	noMultiAppend bool
	// hidesUIDs says that the server did not tell which UID a message was given.
	hidesUIDs bool

	// listing is what Settle knows of a folder; nil if it knows nothing.
	listing *listing
}

// acquireSession returns a session that knows the state of the folder; if refresh is true,
// its present state. Until leave is called, the session is the caller's alone, and the end
// of ctx breaks it. If another caller finds while this one waits that the server cannot be
// used, both get the same error.
func (s *Sink) acquireSession(ctx context.Context, refresh bool) (ses *session, leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, s.fail("connect", err)
	}
	began := time.Now()
	select {
	case s.sem <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, s.fail("wait for the connection", context.Cause(ctx))
	}
	defer func() {
		if err != nil {
			<-s.sem
		}
	}()
	// Otherwise all callers would wait for a server that hangs, one after the other.
	if s.failedAt.After(began) {
		return nil, nil, s.failure
	}
	ses, stop, err := s.reuseSession(ctx, refresh)
	if ses == nil && err == nil {
		ses, stop, err = s.connect(ctx)
		if err != nil {
			s.server.ForgetTLSSession()
		}
		if err != nil && ctx.Err() == nil {
			s.failedAt, s.failure = time.Now(), err
		}
	}
	if err != nil {
		return nil, nil, err
	}
	s.sessionUses++
	ses.lastUse = s.sessionUses
	return ses, func() { s.releaseSession(ctx, ses, stop) }, nil
}

// releaseSession ends the use of a session that acquireSession has returned, with the same
// ctx. stop is that of remote.BindContext.
func (s *Sink) releaseSession(ctx context.Context, ses *session, stop func()) {
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
}

// reuseSession returns a session from the pool; nil if there is none or the server has
// hung up, which is often noticed only at the next command.
func (s *Sink) reuseSession(ctx context.Context, refresh bool) (*session, func(), error) {
	ses, _ := s.pool.Take(s.key).(*session)
	if ses == nil {
		return nil, nil, nil
	}
	var err error
	if !ses.wire.isBroken() {
		stop := remote.BindContext(ctx, ses.wire.Conn)
		// If another sink or session was used since, it does not know the folder's state.
		if ses.sink != s || ses.lastUse != s.sessionUses {
			ses.sink, ses.noMultiAppend, ses.hidesUIDs, refresh = s, false, false, true
		}
		if refresh {
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

// Quit logs out and closes the connection. It implements remote.Session.
func (ses *session) Quit() {
	if !ses.wire.isBroken() {
		remote.SetTimeout(ses.wire.Conn, time.Second)
		_ = ses.client.Logout() // a courtesy: the answer does not matter
	}
	_ = ses.client.Close()
}

// connect opens a session and reads the state of the folder.
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

// opLook is the deliver.Error.Op if the folder is missing.
const opLook = "look at the folder"

// refreshFolder reads the state of the folder. It creates a missing one if Options.Create
// is set.
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
		// Mail programs show the subscribed folders. If this fails, the mail can be
		// delivered all the same.
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

// readStatus reads UIDVALIDITY, UIDNEXT and APPENDLIMIT of the folder.
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

// closeFolder closes the folder that Settle has opened. STATUS must not be used on the
// selected folder (RFC 9051 §6.3.11), and the server would report each APPEND to it. It was
// opened read-only, so that CLOSE removes nothing.
func (ses *session) closeFolder() error {
	if ses.client.State() != imap.ConnStateSelected {
		return nil
	}
	if err := ses.client.UnselectAndExpunge().Wait(); err != nil {
		return ses.fail("close the folder", err)
	}
	return nil
}
