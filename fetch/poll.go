package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

const defaultBudget = time.Hour

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

// sink returns the sink of that name, nil if there is none.
func (a *Account) sink(o *Options, name string) deliver.Sink {
	for _, t := range a.targets() {
		if t.Name == name {
			return t.Sink
		}
	}
	return o.Sinks[name]
}

// promisor returns the sink that can answer for a promise, nil if there is none:
// one that was renamed answers for what it promised by its former name.
func (a *Account) sinkOfPromise(o *Options, p state.Promise) deliver.Sink {
	named := a.sink(o, p.Sink)
	if named != nil && named.Made(p.Token) {
		return named
	}
	for _, t := range a.targets() {
		if t.Sink.Made(p.Token) {
			return t.Sink
		}
	}
	if named != nil {
		return named
	}
	for _, name := range slices.Sorted(maps.Keys(o.Sinks)) {
		if s := o.Sinks[name]; s.Made(p.Token) {
			return s
		}
	}
	return nil
}

// budgeted returns a context for a poll, or a look: it ends when that has taken too
// long as a whole, as with a server that says a little now and then, for ever.
func (a *Account) withBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	budget := cmp.Or(a.Budget, defaultBudget)
	return context.WithTimeoutCause(ctx, budget, budgetError(budget))
}

// budgetError is the error of a poll, or a look, that took too long as a whole.
type budgetError time.Duration

func (d budgetError) Error() string {
	return fmt.Sprintf("cut short: it took longer than time_limit (%v)", time.Duration(d))
}

// overspent returns the budgetError in the place of an error that says no more than
// that the time of a budgeted ctx is over.
func orOverBudget(ctx context.Context, err error) error {
	if isOverBudget(context.Cause(ctx)) && errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// spent reports whether err means that a poll, or a look, took too long as a whole.
func isOverBudget(err error) bool {
	_, ok := errors.AsType[budgetError](err)
	return ok
}

// overtime is how long sinks may take for what has come in before the budget was
// spent. Those that say something now and then outlive any timeout of their own.
const commitGrace = 10 * time.Minute

// outliveBudget returns a context that ends with ctx, or some time later if ctx ends
// because the poll's budget is spent.
func outliveBudget(ctx context.Context) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if isOverBudget(context.Cause(ctx)) {
			select {
			case <-time.After(commitGrace):
			case <-longer.Done():
			}
		}
		cancel(context.Cause(ctx))
	})
	return longer, func() { stop(); cancel(nil) }
}

// run is one session, from the connection to QUIT. more is true if the maildrop
// holds messages beyond the session's cap.
func (s *session) run(ctx context.Context) (more bool, err error) {
	sum := s.summary
	defer s.close()
	if err := s.connect(ctx); err != nil {
		return false, err
	}
	if err := s.listAndPlan(ctx); err != nil {
		return false, err
	}
	if s.deleteOnly {
		if err := s.recordPlan(ctx); err != nil {
			return false, err
		}
		return false, s.deleteAndQuit(ctx)
	}
	sum.Refused = s.plan.Waiting + s.plan.Open // which their sinks did not answer for
	sum.Unfetched = 0                          // of the session before
	s.opts.report(s.planned())
	if n := len(s.plan.Verify); n > 0 && s.plan.Reused {
		s.notice("the server may have given unique-ids to other messages: all that no header tells are downloaded to be compared (%d)", n)
	}
	before := sum.Fetched + sum.Dropped + sum.Refused
	if err := s.recordPlan(ctx); err != nil {
		return false, err
	}
	failed := errors.Join(s.fetchPlanned(ctx), s.blame(context.WithoutCancel(ctx)))
	if failed == nil || isolated(failed) && !s.client.Broken() {
		failed = errors.Join(failed, s.verifyInStep(ctx))
	}
	if s.suspect || errors.Is(failed, errOutOfStep) {
		failed = errors.Join(failed, s.recordDoubt(ctx))
	}
	if failed != nil && (!isolated(failed) || s.client.Broken()) {
		return false, failed
	}
	// What landed is deleted whatever the sinks are up to now.
	if err := errors.Join(failed, s.finish(ctx)); err != nil {
		return false, err
	}
	done := sum.Fetched + sum.Dropped + sum.Refused - before
	// A server that deletes nothing, whatever it says, has the same compared again; and
	// one without unique-ids that never gives a message twice alike, fetched again.
	left := s.plan.More - s.keyless
	moved := (done > 0 || s.compared > 0) && left < s.lastLeft
	s.lastLeft = left
	switch {
	case s.opts.draining():
		sum.Unfetched = max(0, s.planned().Fetch+s.plan.More-done-s.alreadyHad)
	case s.serverTrouble == nil:
		sum.Unfetched = max(0, left) // should there be no further session
	}
	more = s.plan.More > 0 && moved && s.serverTrouble == nil && !s.opts.draining()
	if n := s.plan.Unclear; n > 0 && !more {
		s.serverTrouble = cmp.Or(s.serverTrouble, fmt.Errorf("%s no unique-id now and %w", number(n, "message has", "messages have"), errUnclear))
	}
	if n := s.leftNameless; n > 0 && !more {
		s.serverTrouble = cmp.Or(s.serverTrouble, fmt.Errorf("%s no unique-id and %w", number(n, "message has", "messages have"), errNameless))
	}
	// The next poll may find something else that it cannot deliver, or the same.
	if s.expiresAtQuit && len(s.undelivered) > 0 && len(s.toDelete) > 0 && !more && s.serverTrouble == nil && !s.opts.draining() {
		s.deleteOnly, more = true, true
	}
	return more, s.serverTrouble
}

// planned sums up the plan: what is compared is downloaded as well, and so is
// what is too large if the quarantine takes it.
func (s *session) planned() Planned {
	p := Planned{
		Account: s.Name, Listed: len(s.listing.Entries), Octets: s.listing.Octets,
		Delete: len(s.plan.Delete), More: s.plan.More, MoreOctets: s.plan.MoreOctets,
	}
	download := slices.Concat(s.plan.Fetch, s.plan.Verify)
	if s.Quarantine != nil {
		download = append(download, s.plan.Large...)
	}
	p.Fetch = len(download)
	for _, w := range download {
		p.FetchOctets += w.Size
	}
	return p
}

// tooLarge counts the messages that stay since they are too large.
func (s *session) tooLarge() int {
	if s.Quarantine != nil {
		return 0
	}
	return len(s.plan.Large)
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
