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

// Poll brings what is new on the account's server into its sinks, deletes what
// is due, and records how it went. What failed is in Summary.Err.
//
// Cancelling ctx hangs up: the server keeps what it has, and the next poll
// goes on from there.
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
			what = fmt.Sprintf("%d messages", n)
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

// lastWord is how long Postpoll may still take once the poll is called off: what
// has opened a way is to close it, and nobody waits for what hangs.
const postpollGrace = 10 * time.Second

var errLastWord = fmt.Errorf("postpoll was ended: it took more than %v when all was to end", postpollGrace)

func (a *Account) postpoll(ctx context.Context, s Summary) error {
	longer, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(postpollGrace):
			end(errLastWord)
		case <-longer.Done():
		}
	})
	defer stop()
	return a.Postpoll(longer, s)
}

func (a *Account) poll(ctx context.Context, o *Options, s *Summary, meter *Meter) error {
	ctx, cancel := a.withBudget(ctx)
	defer cancel()
	if o.DryRun {
		return orOverBudget(ctx, a.dryRun(ctx, o, s))
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
		failures: was.Failures, downSinks: map[string]error{}, interrupted: map[pop3proto.Entry]bool{}, lastLeft: math.MaxInt,
		unrecordedMaildrop: standing.Maildrop != a.maildrop(),
	}
	if a.changedMaildrop(&standing) {
		v.notice("it is another maildrop than that of %s: what is remembered may be of other messages and is looked at", standing.Maildrop)
		if err := v.doubtAllRows(ctx); err != nil {
			return err
		}
		standing.Rest = state.Rest{}
	}
	v.server = a.recallServer(o, &standing)
	if standing.Doubt { // a poll was killed before it knew what the server had deleted
		if err := v.recordUnconfirmed(ctx); err != nil {
			return err
		}
	}
	s.Fetched, s.Bytes = standing.Untold, standing.UntoldBytes // of a poll that was killed
	broken, err := v.settle(ctx, standing.Open)
	up := func(t Target) bool { return v.downSinks[t.Name] == nil }
	if err == nil && (len(v.downSinks) == 0 || slices.ContainsFunc(a.sinks(), up)) {
		ahead := a.readAhead(ctx, o, v.server.rest)
		err = v.runSessions(ctx, ahead)
		ahead.stop()
	}
	if includes(err, broken) { // a sink that is out of reach was asked twice
		broken = nil
	}
	for _, sink := range slices.Sorted(maps.Keys(v.downSinks)) {
		if down := v.downSinks[sink]; !includes(err, down) && !includes(broken, down) { // it may be why the session failed
			broken = errors.Join(broken, down)
		}
	}
	err = doubt(orOverBudget(ctx, err), was, s)
	all := cutShort(ctx, errors.Join(err, broken))
	if errors.Is(all, ErrCutShort) {
		err = all
	}
	if s.LoggedIn.IsZero() {
		err = all // else some sinks' trouble is no reason to wait with the others' mail
	} else if errors.Is(err, errUnclear) || errors.Is(err, errNameless) {
		err = nil // nor is it one that some messages have lost their names, or never had any
	}
	s.Schedule = a.reschedule(was, s, err, o)
	return errors.Join(all, a.save(ctx, o, s, v.server, all))
}

// says reports whether an error tells all that another does.
func includes(err, other error) bool {
	return err != nil && other != nil && strings.Contains(err.Error(), other.Error())
}

// save records how the poll went, for status.
func (a *Account) save(ctx context.Context, o *Options, s *Summary, server *knownServer, err error) error {
	if err == nil && s.Unfetched > 0 && o.draining() {
		err = ErrCutShort // what is left must not look like nothing, though nothing failed
	}
	p := state.Poll{
		Started: s.Started.Unix(), Ended: o.now().Unix(),
		Result: Classify(err).String(), Hint: Hint(err),
		Fetched: s.Fetched, Deleted: s.Deleted, Listed: s.Listed, Bytes: s.Bytes,
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

// saveUnleased records that a poll failed over its lease, and nothing else: another
// process may have the lease, and knows better.
func (a *Account) saveUnleased(ctx context.Context, o *Options, s *Summary, err error) error {
	if _, failed := errors.AsType[*state.Error](err); !failed {
		return nil
	}
	return o.State.SavePoll(context.WithoutCancel(ctx), a.Name, state.Poll{
		Started: s.Started.Unix(), Ended: o.now().Unix(),
		Result: Classify(err).String(), Error: err.Error(), Hint: Hint(err), Unconfirmed: true,
	})
}

// dryRun does all that a poll does before it changes something.
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
