package fetch_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// another returns a Maildir sink of that name, and how to read it.
func (r *rig) another(name string) (fetch.Target, func() []string) {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), name)
	sink, err := maildir.New(dir, maildir.Options{})
	check(r.t, err)
	r.t.Cleanup(func() { sink.Close() })
	return fetch.Target{Name: name, Sink: sink}, func() []string { return (&rig{t: r.t, dir: dir}).mail() }
}

func expectMail(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", what, got, want)
	}
}

func TestSeveralSinks(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(100)
	s := r.succeed()
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
	if s.Fetched != 100 || s.Deleted != 100 || len(r.left()) != 0 {
		t.Errorf("fetched %d, deleted %d, %d left", s.Fetched, s.Deleted, len(r.left()))
	}
}

// A sink that does not take a message never makes another get it twice, and
// the message stays on the server until both have it.
func TestOneOfSeveralRefuses(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := poisoned(t, late)
		archive, archived := r.another("archive")
		r.account.Deliver = append(r.account.Deliver, archive)
		all := append(slices.Clone(good), poison)
		for range 3 {
			if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 {
				t.Errorf("late %v: %v, %d refused: %v", late, s.Class, s.Refused, s.Err)
			}
			r.expect(good...)
			expectMail(t, "the archive", archived(), all...)
			if got := r.left(); !slices.Equal(got, []string{"u2"}) {
				t.Errorf("late %v: left %q", late, got)
			}
			r.expectRefused("u2", "it is poison")
			r.later(day)
		}

		r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
		r.succeed()
		r.expect(all...)
		expectMail(t, "the archive", archived(), all...)
		if len(r.left()) != 0 {
			t.Errorf("late %v: left %q", late, r.left())
		}
	}
}

// A Maildir whose disk cannot sync holds up no other, however many messages come.
func TestOneOfSeveralCannotSync(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	fsys, broken := durabletest.New(), true
	fsys.OnOp(func(op durabletest.Op) error {
		if broken && op.Verb == durabletest.Sync && strings.Contains(op.Path, "/tmp/") {
			return syscall.ESTALE
		}
		return nil
	})
	sick, err := maildir.New("/sick", maildir.Options{FS: fsys})
	check(t, err)
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: "sick", Sink: sick})
	want := r.fill(100)
	if s := r.poll(); s.Class == fetch.ClassFine || s.Deleted != 0 {
		t.Errorf("%v, %d deleted", s.Class, s.Deleted)
	}
	r.expect(want...)
	broken = false
	r.later(day)
	if s := r.succeed(); s.Deleted != 100 {
		t.Errorf("%d deleted", s.Deleted)
	}
	r.expect(want...)
	if entries, err := fsys.ReadDir("/sick/new"); len(entries) != 100 || err != nil {
		t.Errorf("the other one holds %d, %v", len(entries), err)
	}
}

// What a Maildir does not have, the journal hears of before any other sink is
// waited for: a promise that is left open counts as landed in a Maildir.
func TestBrokenPromiseIsTold(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	var order []string
	last := r.account.Deliver[0]
	last.Name, last.Sink = "last", timed{last.Sink, "last", false, &order}
	robbed, _ := r.another("robbed")
	robbed.Sink = timed{emptied{robbed.Sink}, "robbed", false, &order}
	r.account.Deliver = []fetch.Target{last, robbed}
	r.fill(1)
	r.opts.State = retracting{r.opts.State, &order}
	r.poll()
	order = slices.DeleteFunc(order, func(what string) bool { return strings.HasPrefix(what, "prepare") })
	if want := []string{"commit robbed", "retract", "commit last"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}

// emptied is a sink that finds what it has promised gone.
type emptied struct{ deliver.Sink }

func (e emptied) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := e.Sink.Begin(ctx)
	return emptiedBatch{b}, err
}

type emptiedBatch struct{ deliver.Batch }

func (emptiedBatch) Commit(_ context.Context, landed func(deliver.Receipt) error) error {
	return landed(deliver.Receipt{Err: &deliver.Error{Fault: deliver.FaultTemporary, Err: fs.ErrNotExist}})
}

// retracting notes promises that are withdrawn.
type retracting struct {
	fetch.State
	order *[]string
}

func (s retracting) Retract(ctx context.Context, account string, ps []state.Promise) error {
	*s.order = append(*s.order, "retract")
	return s.State.Retract(ctx, account, ps)
}

// A sink that refuses a message and is given up stands in the way no more.
func TestSinkGivenUp(t *testing.T) {
	r, good, poison := poisoned(t, false)
	archive, archived := r.another("archive")
	r.account.Deliver = append(r.account.Deliver, archive)
	r.poll()
	r.account.Deliver = r.account.Deliver[1:]
	r.later(day)
	r.succeed()
	expectMail(t, "the archive", archived(), append(good, poison)...)
	r.expectEmpty()
}

// Nor if one of those that have the message is down then.
func TestSinkGivenUpBesideOneThatIsDown(t *testing.T) {
	r, _, _ := poisoned(t, false)
	archive, _ := r.another("archive")
	third, _ := r.another("third")
	r.account.Deliver = append(r.account.Deliver, archive, third)
	r.poll()
	r.account.Deliver = []fetch.Target{archive, {Name: "third", Sink: unusable{third.Sink}}}
	r.later(day)
	r.poll()
	r.expectEmpty()
}

func TestQuarantineOfOneOfSeveral(t *testing.T) {
	r, good, poison := poisoned(t, true)
	archive, archived := r.another("archive")
	quarantine, quarantined := r.another("quarantine")
	r.account.Deliver = append(r.account.Deliver, archive)
	r.account.Quarantine = &quarantine
	r.succeed()
	r.expect(good...)
	expectMail(t, "the archive", archived(), append(good, poison)...)
	expectMail(t, "the quarantine", quarantined(), poison)
	r.expectEmpty()
}

// timed is a sink that notes when it is prepared and committed.
type timed struct {
	deliver.Sink
	name  string
	locks bool
	log   *[]string
}

func (s timed) Profile() deliver.Profile {
	p := s.Sink.Profile()
	p.Target, p.Locks = s.name, s.locks
	return p
}

func (s timed) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return timedBatch{b, s}, err
}

type timedBatch struct {
	deliver.Batch
	timed
}

func (b timedBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	*b.log = append(*b.log, "prepare "+b.name)
	return b.Batch.Prepare(ctx)
}

func (b timedBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	*b.log = append(*b.log, "commit "+b.name)
	return b.Batch.Commit(ctx, landed)
}

// Locks are taken last, given back first, and always in one order.
func TestLockOrder(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	var log []string
	r.account.Deliver = nil
	for _, s := range []timed{{name: "c", locks: true}, {name: "b"}, {name: "a", locks: true}, {name: "d"}} {
		target, _ := r.another(s.name)
		s.Sink, s.log = target.Sink, &log
		r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: s.name, Sink: s})
	}
	r.fill(1)
	r.succeed()
	want := []string{
		"prepare b", "prepare d", "prepare a", "prepare c", "commit c", "commit a", "commit d", "commit b",
	}
	if !slices.Equal(log, want) {
		t.Errorf("%q, want %q", log, want)
	}
}

// What a sink that locks has taken is journalled before it gives the lock back: its
// owner may move it then. So is what a sink that cannot tell later has taken.
func TestJournalledInTime(t *testing.T) {
	for _, promised := range []deliver.Profile{
		{Guarantee: deliver.ExactlyOnce, Locks: true}, {Guarantee: deliver.AtLeastOnce},
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Deliver[0].Sink = &batched{profiled{r.account.Deliver[0].Sink, promised}, func(b deliver.Batch) deliver.Batch {
			return reliant{b, func(landed func(deliver.Receipt) error) error {
				err := b.Commit(t.Context(), landed)
				if open, _ := r.store.Promises(t.Context(), "work"); len(open) > 0 {
					t.Errorf("%v: %d are not journalled at the end of Commit", promised, len(open))
				}
				return err
			}}
		}}
		want := r.fill(3)
		r.succeed()
		r.expect(want...)
	}
}

// profiled is a sink of another profile.
type profiled struct {
	deliver.Sink
	profile deliver.Profile
}

func (p profiled) Profile() deliver.Profile { return p.profile }

// noted is a sink that notes for whom it got a message.
type noted struct {
	deliver.Sink
	recipients *[][]string
}

func (n noted) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := n.Sink.Begin(ctx)
	return notedBatch{b, n.recipients}, err
}

type notedBatch struct {
	deliver.Batch
	recipients *[][]string
}

func (n notedBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	*n.recipients = append(*n.recipients, mail.Recipients)
	return n.Batch.Stage(ctx, mail, body)
}

func TestRoute(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	ada, adas := r.another("ada")
	bob, bobs := r.another("bob")
	rest, rests := r.another("rest")
	var recipients, strangers [][]string
	rest.Sink = noted{rest.Sink, &strangers}
	bob.Sink = noted{bob.Sink, &recipients}
	r.account.Route = &fetch.Route{
		Headers: []string{"X-Envelope-To", "Delivered-To", "X-Original-To"},
		Map: map[string][]fetch.Target{
			"ada":               {ada},
			"bob@example.org":   {bob},
			"@bobs.example.net": {bob},
			"both@example.org":  {ada, bob},
			"@example.net":      {bob},
		},
		Domains: []string{"example.org", "example.net"},
	}
	r.account.Deliver = []fetch.Target{rest}
	for uid, raw := range map[string]string{
		"local part":     "Delivered-To: Ada@Example.ORG\n\n1\n",
		"address":        "X-Original-To: bob@example.org\nDelivered-To: ada@example.org\n\n2\n",
		"domain":         "X-Envelope-To: <any@bobs.example.net>\n\n3\n",
		"two people":     "X-Envelope-To: ada@example.org, <bob@example.org>\n\n4\n",
		"two sinks":      "Delivered-To: both@example.org\n\n5\n",
		"other domain":   "Delivered-To: ada@example.com\n\n6\n",
		"nobody":         "To: ada@example.org\nCc: bob@example.org\n\n7\n",
		"forged below":   "Delivered-To: stranger@example.org\nReceived: from x\nX-Envelope-To: bob@example.org\n\n8\n",
		"no header":      "\nDelivered-To: ada@example.org\n",
		"and a stranger": "Delivered-To: ada@example.org, stranger@example.org\n\n9\n",
		"no domain":      "Delivered-To: ada\n\na\n",
		"both keys":      "Delivered-To: ada@example.net\n\nb\n",
		"quoted":         "Delivered-To: \"x@y\"@bobs.example.net\n\nc\n",
		"great stranger": "Delivered-To: stranger@Example.ORG\n\nd\n",
		"one sink":       "Delivered-To: ada@example.org, both@example.org\n\nf\n",
		"quoted strange": "Delivered-To: \"x@y\"@example.org\n\ne\n",
	} {
		r.drop.Add(uid, []byte(raw))
	}
	s := r.succeed()
	if s.Fetched != 16 || len(r.left()) != 0 {
		t.Errorf("fetched %d, left %q", s.Fetched, r.left())
	}
	last := func(mail []string) (bodies string) {
		var all []byte
		for _, m := range mail {
			all = append(all, m[len(m)-2])
		}
		slices.Sort(all)
		return string(all)
	}
	for what, got := range map[string][2]string{
		"ada":  {last(adas()), "1459abf"},
		"bob":  {last(bobs()), "2345cf"},
		"rest": {last(rests()), "6789deg"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s got %s, want %s", what, got[0], got[1])
		}
	}
	for _, to := range recipients {
		if len(to) != 1 {
			t.Errorf("bob's sink got mail for %q", to)
		}
	}
	ours := map[string]bool{"stranger@example.org": true, "stranger@Example.ORG": true, `"x@y"@example.org`: true}
	left := maps.Clone(ours)
	for _, to := range strangers {
		if len(to) > 1 || len(to) == 1 && !ours[to[0]] {
			t.Errorf("the default sink was told of %q, who may be anybody", to)
		}
		if len(to) == 1 {
			delete(left, to[0])
		}
	}
	if len(left) > 0 {
		t.Errorf("the default sink was not told of %q", slices.Collect(maps.Keys(left)))
	}
}

// unusable is a sink that cannot even begin.
type unusable struct{ deliver.Sink }

func (unusable) Begin(context.Context) (deliver.Batch, error) {
	return nil, &deliver.Error{Fault: deliver.FaultOperator, Target: "gone", Op: "open", Err: errors.New("it is not there")}
}

// unswept is a sink whose folder cannot be looked into.
type unswept struct{ deliver.Sink }

func (unswept) Sweep(context.Context, string) error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: "gone", Op: "look into it", Err: errors.New("it is not there")}
}

// One person's broken mailbox holds up nobody else's mail.
func TestRouteToBrokenSink(t *testing.T) {
	ada, _ := newRig(t, pop3test.Behaviour{}).another("ada")
	for name, sink := range map[string]deliver.Sink{"cannot begin": unusable{ada.Sink}, "cannot be swept": unswept{ada.Sink}} {
		t.Run(name, func(t *testing.T) { testRouteToBrokenSink(t, sink) })
	}
}

func testRouteToBrokenSink(t *testing.T, broken deliver.Sink) {
	r := newRig(t, pop3test.Behaviour{})
	ada, adas := r.another("ada")
	gone := fetch.Target{Name: "gone", Sink: broken}
	r.account.Route = &fetch.Route{
		Headers: []string{"Delivered-To"},
		Map:     map[string][]fetch.Target{"ada@example.org": {ada}, "bob@example.org": {gone}},
	}
	r.drop.Add("b", []byte("Delivered-To: bob@example.org\n\n1\n"))
	r.drop.Add("a", []byte("Delivered-To: ada@example.org\n\n2\n"))
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Fetched != 1 || s.Refused != 1 {
		t.Errorf("%v, fetched %d: %v", s.Class, s.Fetched, s.Err)
	}
	expectMail(t, "ada", adas(), "Delivered-To: ada@example.org\n\n2\n")
	if rows := r.rows(); len(rows) != 2 || rows[1].UID != "b" || !strings.Contains(rows[1].Reason, "it is not there") {
		t.Errorf("remembered: %+v", rows)
	}
	if got := r.left(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("left %q", got)
	}
}

// What former sinks have left is nothing to wait for, unless the disk is broken.
func TestLeftoversCannotBeSwept(t *testing.T) {
	for fault, want := range map[deliver.Fault]fetch.Class{
		deliver.FaultOperator: fetch.ClassFine, deliver.FaultMachine: fetch.ClassMachine,
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(1)
		asked := ""
		r.opts.Sweep = func(account string) error {
			asked += account
			return &deliver.Error{Fault: fault, Target: "spool", Op: "list the folder", Err: errors.New("it is shut")}
		}
		s := r.poll()
		if s.Class != want || s.Fetched == 1 != (want == fetch.ClassFine) || asked != "work" {
			t.Errorf("%v, fetched %d, swept %q: %v", s.Class, s.Fetched, asked, s.Err)
		}
		notes := eventsOf[fetch.Noticed](r)
		told := slices.ContainsFunc(notes, func(n fetch.Noticed) bool { return strings.Contains(n.Text, "it is shut") })
		if told != (want == fetch.ClassFine) {
			t.Errorf("told: %+v", notes)
		}
	}
}

// Where no sink can be used, nobody is asked for mail.
func TestNoSinkCanBeSwept(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(1)
	r.account.Deliver[0].Sink = unswept{r.account.Deliver[0].Sink}
	quarantine, _ := r.another("quarantine")
	r.account.Quarantine = &quarantine
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Sessions != 0 {
		t.Errorf("%v after %d sessions: %v", s.Class, s.Sessions, s.Err)
	}
}

// Of several sinks that cannot be used, each is told of once.
func TestEachBrokenSinkIsToldOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(1)
	r.account.Deliver = nil
	for _, name := range []string{"r", "p"} {
		sink, err := maildir.New(filepath.Join(t.TempDir(), "none", name), maildir.Options{})
		check(t, err)
		r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: name, Sink: sink})
	}
	s := r.poll()
	for _, name := range []string{"r", "p"} {
		if n := strings.Count(s.Err.Error(), "none/"+name+": create the Maildir"); n != 1 {
			t.Errorf("%s is told of %d times: %v", name, n, s.Err)
		}
	}
}
