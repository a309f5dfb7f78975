package fetch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// visit is one poll of an account, or one look at it: what its sessions share. A visit
// has several sessions if there is more to fetch than one of them may, or if a
// connection died.
type visit struct {
	*Account
	opts     *Options
	summary  *Summary
	meter    *Meter
	server   *knownServer
	failures int // how many polls in a row have failed before this one

	// What earlier sessions of the visit found out.
	openKeys     map[string]bool          // keys of rows with an open promise: their messages are left alone
	downSinks    map[string]error         // sinks that cannot be used, and why
	keyless      int                      // messages handled that have no key to remember them by: the next session must go beyond them
	lastLeft     int                      // messages that the last session left to the next one
	torn         map[pop3proto.Entry]bool // messages without a key over which a connection died
	noPipelining bool                     // send one command at a time, whatever the server offers
	deleteOnly   bool                     // the next session deletes what landed, and retrieves nothing
	reconnects   int                      // how often it connected again after a torn message, see maxReconnects
	// pipeliningBlamed is set if pipelining may be why the last session failed: if the
	// next one, without it, succeeds, it was.
	pipeliningBlamed bool

	// What the visit knows of the maildrop.
	otherMaildrop      bool // it is another one than that of the rows, which are not marked so yet
	unrecordedMaildrop bool // the state does not say yet that the rows are of this maildrop
	skippedFolderData  bool // a message that is no mail was passed over, see skipFolderData

	// What kind of look it is. A poll has none of these.
	readOnly    bool             // nothing is to change
	adopting    bool             // for Adopt
	checkReport *Report          // for Check; may be nil
	onFate      func(Want, Fate) // for Look; may be nil
}

// maxReconnects is how often a visit connects again after the connection died in the middle
// of a message: once to try that message after all others, and once more to delete what
// landed, should the message have been at fault.
const maxReconnects = 2

// maxTornKeyless is how many messages without a key may, besides, make a visit connect again.
// Each of them is left alone for the rest of the visit.
const maxTornKeyless = 10

// runSessions runs sessions until there is nothing left to fetch. rows are for the first
// of them: they are as they were before it.
func (v *visit) runSessions(ctx context.Context, rows *rowStateReader) error {
	var died error // how the last connection died, unless that was made good
	for {
		s := &session{visit: v, rowStates: rows}
		rows = nil
		tornBefore := len(v.torn)
		more, err := s.run(ctx)
		if v.pipeliningBlamed && err == nil {
			v.server.disablePipelining()
		}
		v.pipeliningBlamed = false
		switch {
		case v.connectAgain(ctx, s, err, tornBefore):
			died = err
		case !v.summary.LoggedIn.IsZero() && v.summary.pauseReply != nil:
			// The pause that the server wants comes before the next poll.
			v.summary.Deferred = true
			v.notice("the rest comes with the next poll: %v", err)
			return died
		case err != nil || !more:
			return err
		default:
			died = nil
		}
		if !v.waitForLogin(ctx) {
			return died
		}
	}
}

// connectAgain reports whether another session may do better than s, which ended in err,
// and notes what that session has to do otherwise. tornBefore is how many messages v.torn
// had before s.
func (v *visit) connectAgain(ctx context.Context, s *session, err error, tornBefore int) bool {
	misled := v.server.mayHaveMisled(err)
	if misled {
		v.server.forget()
	}
	if v.opts.draining() {
		return false
	}
	_, torn := errors.AsType[*tornError](err)
	torn = torn && ctx.Err() == nil
	switch {
	case misled && s.listing == nil && !v.server.noCAPA:
		v.notice("%v; connecting again, to ask what the server can do now", err)
	case s.listing == nil && v.server.settleForFirstCAPA(err):
		v.notice("%v; connecting again, without that after the login", err)
	case dropsPipelinedCommands(err) && !v.noPipelining:
		// With one command at a time, replies cannot get out of step.
		v.notice("%v; connecting again, without pipelining", err)
		_, silent := errors.AsType[silentOutOfStep](err)
		_, hungUp := errors.AsType[pipelineHangup](err)
		v.noPipelining, v.pipeliningBlamed = true, silent || hungUp
	case torn && len(v.torn) > tornBefore && tornBefore < maxTornKeyless:
		v.notice("%v; connecting again", err)
	case torn && v.reconnects < maxReconnects:
		v.notice("%v; connecting again", err)
		v.reconnects++
	default:
		return false
	}
	return true
}

// longestWait is the longest pause between two logins (LOGIN-DELAY) for which a visit
// waits. If the server wants a longer one, the rest is left to the next poll.
const longestWait = time.Minute

// waitForLogin waits until the server accepts another login. It returns false if this
// visit is not to log in again.
func (v *visit) waitForLogin(ctx context.Context) bool {
	s := v.summary
	wait := nextLogin(s.LoggedIn, s.LoginDelay).Sub(v.opts.now())
	if wait <= 0 {
		return true
	}
	if wait > longestWait {
		s.Deferred = true
		v.notice("the server wants %v between two logins: the rest comes with the next poll", s.LoginDelay)
		return false
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
	case <-v.opts.Drain:
	}
	return false
}

// recordUnconfirmed records that nobody knows which of the deletions that it was asked
// for the server has made.
func (v *visit) recordUnconfirmed(ctx context.Context) error {
	err := v.opts.State.Undelete(context.WithoutCancel(ctx), v.Name)
	v.summary.unconfirmed = err != nil
	return err
}

// connectError says of an error of the connection which server it was connected to.
func (v *visit) connectError(err error) error {
	return &ConnectError{Addr: v.Server.Addr(), Err: err}
}

// notice reports something that a person may want to know, but need not act on.
func (v *visit) notice(format string, args ...any) {
	v.opts.report(Noticed{Account: v.Name, Text: fmt.Sprintf(format, args...)})
}

// number returns a count with its noun: "1 message", "12 messages".
func number(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}
