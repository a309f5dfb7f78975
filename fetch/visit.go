package fetch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// visit is a poll of an account, or a look at it: what its sessions have in common.
type visit struct {
	*Account
	opts     *Options
	summary  *Summary
	meter    *Meter
	server   *knownServer
	failures int // polls that failed since the last that did not

	unanswered         map[string]bool          // keys of rows with a promise that no sink could answer for
	downSinks          map[string]error         // sinks that cannot be used, and why
	keyless            int                      // messages that left nothing to know them by: the next session goes beyond them
	lastLeft           int                      // messages that the last session left to the next one
	interrupted        map[pop3proto.Entry]bool // messages over which a connection died, and that nothing tells
	noPipelining       bool                     // one command at a time, whatever the server offers
	otherMaildrop      bool                     // the maildrop is another than that of the rows, and they do not say so
	unrecordedMaildrop bool                     // nothing says yet that the rows are of this maildrop
	skippedFolderData  bool                     // folder data was passed over
	deleteOnly         bool                     // the next session is to delete, and to retrieve nothing

	readOnly bool             // at most: nothing is to change
	adopting bool             // for Adopt
	report   *Report          // for Check; may be nil
	onFate   func(Want, Fate) // for Look; may be nil
}

// maxCuts is how often a poll connects again after the connection died in the
// middle of a message: once to try that message after all others, once more
// to delete what landed if it was the message's fault.
const maxCuts = 2

// maxTorn is how many messages that nothing tells may have it connect again, besides:
// each of them is left alone from then on.
const maxTorn = 10

// sessions runs sessions until there is nothing left to fetch. The first of them
// has the rows at a glance, as they were before it.
func (v *visit) runSessions(ctx context.Context, rows *glimpseReader) error {
	var died error    // how the last connection died, unless that was made good
	doubtful := false // a server that may not be up to pipelining: the next session shows it
	for cuts := 0; ; {
		s := &session{visit: v, glimpses: rows}
		rows = nil
		torn := len(v.interrupted)
		more, err := s.run(ctx)
		_, cut := errors.AsType[*cutError](err)
		_, silent := errors.AsType[silentOutOfStep](err)
		_, hung := errors.AsType[pipelineHangup](err)
		if doubtful && err == nil {
			v.server.disablePipelining()
		}
		doubtful = false
		tore := len(v.interrupted) > torn && torn < maxTorn
		misled := v.server.mayHaveMisled(err)
		if misled {
			v.server.forget()
		}
		switch {
		case misled && s.listing == nil && !v.server.noCAPA && !v.opts.draining():
			v.notice("%v; connecting again, to ask what the server can do now", err)
			died = err
		case s.listing == nil && !v.opts.draining() && v.server.settleForFirstCAPA(err):
			v.notice("%v; connecting again, without that after the login", err)
			died = err
		case dropsPipelinedCommands(err) && !v.noPipelining && !v.opts.draining():
			// One command at a time, replies cannot get out of step.
			v.notice("%v; connecting again, without pipelining", err)
			died, v.noPipelining, doubtful = err, true, hung || silent
		case cut && (cuts < maxCuts || tore) && ctx.Err() == nil && !v.opts.draining():
			v.notice("%v; connecting again", err)
			died = err
			if !tore {
				cuts++
			}
		case !v.summary.LoggedIn.IsZero() && v.summary.refused != nil:
			// The pause that the server wants comes before the next poll.
			v.summary.Rest = true
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

// longestWait is how long a poll waits between two of its logins, where the
// server asks for that; else it leaves the rest to the next poll.
const longestWait = time.Minute

// waitForLogin waits until the server takes another login. It returns false
// if there is to be none in this poll.
func (v *visit) waitForLogin(ctx context.Context) bool {
	s := v.summary
	wait := nextLogin(s.LoggedIn, s.LoginDelay).Sub(v.opts.now())
	if wait <= 0 {
		return true
	}
	if wait > longestWait {
		s.Rest = true
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

// undelete notes that nobody knows what the server has deleted.
func (v *visit) recordUnconfirmed(ctx context.Context) error {
	err := v.opts.State.Undelete(context.WithoutCancel(ctx), v.Name)
	v.summary.unconfirmed = err != nil
	return err
}

// broken adds to an error of the connection whose connection it was.
func (v *visit) connectError(err error) error {
	return &ConnectError{Addr: v.Server.Addr(), Err: err}
}

func (v *visit) notice(format string, args ...any) {
	v.opts.report(Noticed{Account: v.Name, Text: fmt.Sprintf(format, args...)})
}

// number returns n and what there is of it: "1 message", "12 messages".
func number(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}
