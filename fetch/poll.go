package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Poll fetches what is new on the account's server into its sinks, deletes what is due,
// and records how it went. What failed is in Summary.Err.
//
// Cancelling ctx hangs up: the server keeps what it has, and the next poll goes on from
// there.
func (a *Account) Poll(ctx context.Context, o Options) Summary {
	s := Summary{Account: a.Name, Started: o.now()}
	meter := new(Meter)
	o.report(Started{Account: a.Name, Meter: meter})
	s.Err = cutShort(ctx, a.poll(ctx, &o, &s, meter))
	s.Ended = o.now()
	_, held := errors.AsType[*state.HeldError](s.Err)
	_, early := errors.AsType[*PauseError](s.Err)
	s.Skipped = held || early
	s.Class = Classify(s.Err)
	if s.Err == nil && s.Refused > 0 {
		s.Class = ClassRefused
	}
	if n := s.unfiltered; n > 0 {
		what := "a message"
		if n > 1 {
			what = number(n, "message", "messages")
		}
		o.report(Warned{Account: a.Name, Text: what + " went on unfiltered: " + s.whyUnfiltered, Filter: true})
	}
	if a.Postpoll != nil && s.Would == nil && !s.Skipped {
		if err := a.postpoll(ctx, s); err != nil {
			o.report(Warned{Account: a.Name, Text: err.Error()})
		}
	}
	o.report(Finished{s})
	return s
}

// postpollGrace is how long Postpoll may still take after the poll was cancelled. A hook
// that closes a tunnel should get the time to do so, and one that hangs should not.
const postpollGrace = 10 * time.Second

var errPostpollEnded = fmt.Errorf("postpoll was ended: it took more than %v when all was to end", postpollGrace)

// postpoll calls Postpoll.
func (a *Account) postpoll(ctx context.Context, s Summary) error {
	longer, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(postpollGrace):
			end(errPostpollEnded)
		case <-longer.Done():
		}
	})
	defer stop()
	return a.Postpoll(longer, s)
}

// poll is Poll without the events around it.
func (a *Account) poll(ctx context.Context, o *Options, s *Summary, meter *Meter) error {
	ctx, cancel := a.withBudget(ctx)
	defer cancel()
	if o.DryRun {
		if err := a.dryRun(ctx, o, s); err != nil {
			return lookFailed(ctx, err)
		}
		return nil
	}
	lease, err := o.State.Lease(ctx, a.Name)
	if err != nil {
		return errors.Join(err, a.saveUnleased(ctx, o, s, err))
	}
	defer lease.Release()
	standing, err := o.State.Standing(ctx, a.Name)
	if err != nil {
		return err
	}
	was := a.scheduleOf(&standing)
	if until := notBefore(was, o.now()); !until.IsZero() && !o.Insist {
		s.Schedule = was
		return &PauseError{Until: until, Why: was.Pause}
	}
	v := &visit{
		Account: a, opts: o, summary: s, meter: meter,
		failures: was.Failures, downSinks: map[string]error{}, torn: map[pop3proto.Entry]bool{}, lastLeft: math.MaxInt,
		unrecordedMaildrop: standing.Maildrop != a.maildrop(),
	}
	if err := v.takeOver(ctx, &standing); err != nil {
		return err
	}
	sinkTrouble, err := v.settle(ctx, standing.Open)
	if err == nil && v.hasSink() {
		rows := a.readAhead(ctx, o, v.server.rest)
		err = v.runSessions(ctx, rows)
		rows.stop()
	}
	sinkTrouble = v.joinSinkTrouble(err, sinkTrouble)
	err = doubtRefusedLogin(orOverBudget(ctx, err), was, s)
	all := cutShort(ctx, errors.Join(err, sinkTrouble))
	s.Schedule = a.nextSchedule(was, s, s.stoppedBy(err, all), o)
	return errors.Join(all, a.save(ctx, o, s, v.server, all))
}

// takeOver begins with what the polls before have left: the rows of another maildrop,
// deletions that the server has not confirmed, and messages that no poll has reported.
func (v *visit) takeOver(ctx context.Context, standing *state.Standing) error {
	if v.changedMaildrop(standing) {
		v.notice("it is another maildrop than that of %s: what is remembered may be of other messages and is looked at", standing.Maildrop)
		if err := v.doubtAllRows(ctx); err != nil {
			return err
		}
		standing.Rest = state.Rest{}
	}
	v.server = v.recallServer(v.opts, standing)
	if standing.Unconfirmed { // a poll was killed before it knew what the server had deleted
		if err := v.recordUnconfirmed(ctx); err != nil {
			return err
		}
	}
	v.summary.Fetched, v.summary.Octets = standing.Unreported, standing.UnreportedBytes // of a poll that was killed
	return nil
}

// stoppedBy returns what stopped the account as a whole, which decides when it is polled
// again: err, how its sessions ended, or all, which also has the trouble of its sinks.
// Once the account was logged in, other sinks' mail need not wait because one sink is in
// trouble, or because some messages have no unique-ids.
func (s *Summary) stoppedBy(err, all error) error {
	if s.LoggedIn.IsZero() {
		return all
	}
	if errors.Is(all, ErrCutShort) {
		err = all
	}
	if errors.Is(err, errUnclear) || errors.Is(err, errNameless) {
		return nil
	}
	return err
}

// hasSink reports whether at least one of the account's sinks can be used.
func (v *visit) hasSink() bool {
	if len(v.downSinks) == 0 {
		return true
	}
	return slices.ContainsFunc(v.deliverySinks(), func(t Target) bool { return v.downSinks[t.Name] == nil })
}

// joinSinkTrouble joins what is wrong with sinks, but for what err, the error of the
// sessions, says already: a sink out of reach may have been asked twice.
func (v *visit) joinSinkTrouble(err, trouble error) error {
	if includes(err, trouble) {
		trouble = nil
	}
	for _, name := range slices.Sorted(maps.Keys(v.downSinks)) {
		if down := v.downSinks[name]; !includes(err, down) && !includes(trouble, down) {
			trouble = errors.Join(trouble, down)
		}
	}
	return trouble
}

// includes reports whether the text of err contains that of other.
func includes(err, other error) bool {
	return err != nil && other != nil && strings.Contains(err.Error(), other.Error())
}

// save records how the poll went.
func (a *Account) save(ctx context.Context, o *Options, s *Summary, server *knownServer, err error) error {
	if err == nil && s.Unfetched > 0 && o.draining() {
		err = ErrCutShort // nothing failed, but a poll that left messages must not look complete
	}
	p := state.Poll{
		Started: s.Started.Unix(), Ended: o.now().Unix(),
		Result: Classify(err).String(), Hint: Hint(err),
		Fetched: s.Fetched, Deleted: s.Deleted, Listed: s.Listed, Octets: s.Octets,
		Schedule: &s.Schedule, Server: server.changes(), Rest: server.newRest, Unconfirmed: s.unconfirmed,
	}
	if !s.LoggedIn.IsZero() {
		p.Maildrop = a.maildrop()
	}
	if err != nil {
		p.Error = err.Error()
	} else if s.Refused > 0 {
		p.Result = ClassRefused.String()
	}
	return o.State.SavePoll(context.WithoutCancel(ctx), a.Name, p)
}

// saveUnleased records that a poll could not take its lease. It records nothing else,
// because another process may have the lease, and knows better.
func (a *Account) saveUnleased(ctx context.Context, o *Options, s *Summary, err error) error {
	if _, failed := errors.AsType[*state.Error](err); !failed {
		return nil
	}
	return o.State.SavePoll(context.WithoutCancel(ctx), a.Name, state.Poll{
		Started: s.Started.Unix(), Ended: o.now().Unix(),
		Result: Classify(err).String(), Error: err.Error(), Hint: Hint(err), Unconfirmed: true,
	})
}

// dryRun does what a poll does before it changes anything.
func (a *Account) dryRun(ctx context.Context, o *Options, sum *Summary) error {
	sum.Would = new(Outlook)
	s := &session{visit: &visit{Account: a, opts: o, summary: sum}}
	defer s.close()
	if err := s.survey(ctx); err != nil {
		return err
	}
	*sum.Would = s.outlook()
	sum.Refused, sum.TooLarge = sum.Would.Waiting, sum.Would.TooLarge
	s.opts.report(s.planned())
	s.quitUnchanged(ctx)
	return nil
}
