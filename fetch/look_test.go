package fetch_test

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// fates returns what Look says of each message, by unique-id: its fate, and how long after
// noon that holds.
func (r *rig) fates() map[string]string {
	r.t.Helper()
	sight, err := r.account.Look(r.t.Context(), r.opts, nil)
	check(r.t, err)
	got := map[string]string{}
	for _, p := range sight.Messages {
		got[p.UID] = p.Fate.String()
		if !p.Until.IsZero() {
			got[p.UID] += " " + p.Until.Sub(noon).String()
		}
	}
	return got
}

// Look says what will become of each message, and the next poll does it. Look, Check and a
// dry run come to the same sums.
func TestLookForetellsPoll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 48 * time.Hour}
	r.account.MaxSize = 10_000
	r.account.MaxMessages = 1
	r.fill(2)
	r.drop.Add("large", []byte("Subject: large\n\n"+strings.Repeat("all work\n", 2000)))
	r.drop.Add("poison", []byte("Subject: poison\n\n"))
	r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("poison"))
	expect := func(want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, r.fates()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}

	expect(map[string]string{"u1": "fetch", "u2": "fetch", "poison": "fetch", "large": "leave"})
	if rows := r.rows(); len(rows) != 0 {
		t.Errorf("a look left %d rows", len(rows))
	}
	r.poll()
	expect(map[string]string{"u1": "keep 48h0m0s", "u2": "keep 48h0m0s", "poison": "wait 15m0s", "large": "leave"})
	r.account.Keep.Forever = true
	expect(map[string]string{"u1": "keep", "u2": "keep", "poison": "wait 15m0s", "large": "leave"})
	r.account.Keep.Forever = false
	r.account.Quarantine = &r.account.Deliver[0]
	r.advance(48 * time.Hour)
	expect(map[string]string{"u1": "delete", "u2": "delete", "poison": "fetch", "large": "quarantine"})
	r.poll()
	if left := r.left(); !slices.Equal(left, []string{"large", "poison"}) { // a message in the quarantine is kept for as long

		t.Errorf("after the poll there are %q", left)
	}

	// A message that may have come back is compared; a promise that a crash left open is settled first.
	r.drop.Add("u1", []byte(strings.Replace(message(1), "Message-ID", "Massage-ID", 1)))
	r.drop.Add("u3", []byte(message(3)))
	check(t, r.store.Promise(t.Context(), "work", []state.Promise{{UID: "u3", Sink: "home", Token: "nothing"}}))
	got := r.fates()
	if got["u1"] != "compare" || got["u3"] != "settle" {
		t.Errorf("got %v", got)
	}

	// Look, Check and a dry run come to the same sums.
	sight, err := r.account.Look(t.Context(), r.opts, nil)
	check(t, err)
	report, err := r.account.Check(t.Context(), r.opts)
	check(t, err)
	r.opts.DryRun = true
	if would := r.poll().Would; sight.Waiting != 1 || sight.Open != 1 || report.Outlook != sight.Outlook || *would != sight.Outlook {
		t.Errorf("seen %+v, checked %+v, in a dry run %+v", sight.Outlook, report.Outlook, *would)
	}
}

// No time of deletion is promised for mail that stays: adopted mail, and all mail with
// KeepAll.
func TestLookAtWhatStays(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 48 * time.Hour}
	r.drop.Add("old", []byte(message(9)))
	r.adopt()
	r.fill(1)
	r.mustPoll()
	for _, test := range []struct {
		all  bool
		want map[string]string
	}{
		{false, map[string]string{"old": "keep", "u1": "keep 48h0m0s"}},
		{true, map[string]string{"old": "keep", "u1": "keep"}},
	} {
		r.opts.KeepAll = test.all
		if diff := cmp.Diff(test.want, r.fates()); diff != "" {
			t.Errorf("KeepAll %v: (-want +got)\n%s", test.all, diff)
		}
	}
}

// The sums of an outlook are those of all sessions of the next poll.
func TestOutlookCoversAllSessions(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.MaxMessages = 1
	expect := func(what string, want fetch.Outlook) {
		t.Helper()
		for _, m := range r.drop.Messages() {
			want.Listed++
			want.Octets += int64(len(m.Data))
		}
		sight, err := r.account.Look(t.Context(), r.opts, nil)
		check(t, err)
		if diff := cmp.Diff(want, sight.Outlook); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	octets := func() (n int64) {
		for _, m := range r.drop.Messages() {
			n += int64(len(m.Data))
		}
		return n
	}
	expect("nothing", fetch.Outlook{})
	r.fill(3)
	expect("new mail", fetch.Outlook{Fetch: 3, FetchOctets: octets(), DeleteFetched: true})
	r.mustPoll()
	r.advance(time.Hour)
	r.drop.Restore()
	expect("what comes again", fetch.Outlook{Fetch: 3, FetchOctets: octets(), DeleteFetched: true})
	r.drop.Add("new", []byte(message(4)))
	check(t, r.store.Promise(t.Context(), "work", []state.Promise{{UID: "open", Sink: "home", Token: "nothing"}}))
	expect("new mail behind it", fetch.Outlook{Fetch: 4, FetchOctets: octets(), DeleteFetched: true})
	before := octets()
	r.drop.Add("open", []byte(message(5)))
	expect("and what is on its way", fetch.Outlook{Fetch: 4, FetchOctets: before, Open: 1, DeleteFetched: true})
}

// Look, Check, Adopt and a dry run end with QUIT, and so unlock the maildrop: some servers
// take minutes to notice that a client has gone.
func TestLookersQuit(t *testing.T) {
	for what, look := range map[string]func(r *rig) error{
		"Look":      func(r *rig) error { _, err := r.account.Look(t.Context(), r.opts, nil); return err },
		"Check":     func(r *rig) error { _, err := r.account.Check(t.Context(), r.opts); return err },
		"Adopt":     func(r *rig) error { r.adopt(); return nil },
		"a dry run": func(r *rig) error { r.opts.DryRun = true; return r.poll().Err },
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(1)
		check(t, look(r))
		check(t, r.drop.Wait(t.Context()))
		if log := r.drop.Log(); len(log) == 0 || log[len(log)-1] != "QUIT" {
			t.Errorf("%s ends with %q", what, log)
		}
	}
}

// Look calls its func with each header, whether or not TOP can be pipelined. The func need
// not read all of it. Without TOP, NoHeader is set.
func TestLookHeaders(t *testing.T) {
	for _, test := range []struct {
		name     string
		without  []string
		want     string
		noHeader bool
	}{
		{name: "pipelined", want: "From: bob@example.net|From: bob@example.net|From: bob@example.net"},
		{name: "one by one", without: []string{"PIPELINING"}, want: "From: bob@example.net|From: bob@example.net|From: bob@example.net"},
		{name: "no TOP", without: []string{"TOP"}, noHeader: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: test.without})
			r.fill(3)
			var first []string
			sight, err := r.account.Look(t.Context(), r.opts, func(num int, header io.Reader) {
				line, _ := bufio.NewReader(header).ReadString('\n') // and leave the rest unread
				first = append(first, strings.TrimSpace(line))
			})
			check(t, err)
			if got := strings.Join(first, "|"); got != test.want || (sight.NoHeader != nil) != test.noHeader || len(sight.Messages) != 3 {
				t.Errorf("headers %q, NoHeader %v, %d messages", got, sight.NoHeader, len(sight.Messages))
			}
			if len(r.left()) != 3 {
				t.Errorf("%d messages are left", len(r.left()))
			}
		})
	}
}

// A header that the server refuses is left out, and the others are given, unless it is the
// first one: then TOP is taken to be missing.
func TestLookHeadersRefused(t *testing.T) {
	for uid, want := range map[string]string{"u1": "", "u2": "1 3", "u3": "1 2"} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(3)
		r.drop.Order(pop3test.ReplyErr("TOP", "no").UID(uid))
		var given []string
		sight, err := r.account.Look(t.Context(), r.opts, func(num int, _ io.Reader) { given = append(given, strconv.Itoa(num)) })
		check(t, err)
		if got := strings.Join(given, " "); got != want || (sight.NoHeader != nil) != (want == "") {
			t.Errorf("without that of %s there were %q (%v)", uid, got, sight.NoHeader)
		}
	}
}

// A connection that breaks over headers is an error of Look, and so is a cancelled look.
func TestLookHeadersCutOff(t *testing.T) {
	for _, off := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(3)
		ctx := t.Context()
		if off {
			ctx = r.cancelAt(pop3test.Ignore("TOP", pop3test.Hang).UID("u2"))
		} else {
			r.drop.Order(pop3test.CutIn("TOP", 10, pop3test.Reset).UID("u2"))
		}
		_, err := r.account.Look(ctx, r.opts, func(_ int, header io.Reader) { io.Copy(io.Discard, header) })
		lost, _ := errors.AsType[*fetch.ConnectError](err)
		if errors.Is(err, fetch.ErrCutShort) != off || (lost != nil) == off {
			t.Errorf("called off %v: %v", off, err)
		}
	}
}

// A connection that breaks while Check, Look or a dry run compares headers leaves no trace
// in the state.
func TestLookIsCutOff(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
	r.account.Keep.Forever = true
	r.fill(3)
	r.mustPoll()
	r.drop.Behave(pop3test.Behaviour{}) // the server gives unique-ids from now on
	r.expectNoTraceOfCut()

	// Nor does a deletion in doubt leave one.
	r = newRig(t, pop3test.Behaviour{})
	r.account.Keep.Forever = true
	r.fill(3)
	r.mustPoll()
	check(t, r.store.Delete(t.Context(), "work", noon.Unix(), []string{"u1"})) // u1 is still listed, and so in doubt
	r.expectNoTraceOfCut()
}

// expectNoTraceOfCut has the connection break over TOP while each of them looks, and fails
// the test if a row was changed.
func (r *rig) expectNoTraceOfCut() {
	t := r.t
	t.Helper()
	before := r.rows()
	dry := r.opts
	dry.DryRun = true
	for what, look := range map[string]func() error{
		"Check":     func() error { _, err := r.account.Check(t.Context(), r.opts); return err },
		"Look":      func() error { _, err := r.account.Look(t.Context(), r.opts, nil); return err },
		"a dry run": func() error { return r.account.Poll(t.Context(), dry).Err },
	} {
		r.drop.Order(pop3test.CutIn("TOP", 10, pop3test.Reset))
		err := look()
		if err == nil || fetch.Classify(err) != fetch.ClassRetry {
			t.Errorf("%s: %v", what, err)
		}
		if hint := fetch.Hint(err); hint == "" || strings.Contains(hint, "delivered") { // a look delivers nothing
			t.Errorf("%s: hint: %s", what, hint)
		}
		if diff := cmp.Diff(before, r.rows()); diff != "" {
			t.Errorf("%s changed rows (-was +is)\n%s", what, diff)
		}
		r.drop.ClearFaults()
	}
}

// Check succeeds at a server that hangs up over pipelined commands.
func TestNoPipeliningOnALook(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
	r.account.Keep.Forever = true
	r.fill(3)
	r.server.Order(pop3test.HangUpAhead("TOP"))
	if report, err := r.account.Check(t.Context(), r.opts); err != nil || report.Fetch != 3 {
		t.Errorf("%d to be fetched: %v", report.Fetch, err)
	}
}
