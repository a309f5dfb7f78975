package fetch_test

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// outlook is what Look says of each message, by its unique-id.
func (r *rig) outlook() map[string]string {
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

// Look tells the fate of each message, and a poll makes it come true.
func TestLook(t *testing.T) {
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
		if diff := cmp.Diff(want, r.outlook()); diff != "" {
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
	r.later(48 * time.Hour)
	expect(map[string]string{"u1": "delete", "u2": "delete", "poison": "fetch", "large": "quarantine"})
	r.poll()
	if left := r.left(); !slices.Equal(left, []string{"large", "poison"}) { // what was quarantined is kept, too

		t.Errorf("after the poll there are %q", left)
	}

	// What may have come back is compared; what a crash left open is settled first.
	r.drop.Add("u1", []byte(strings.Replace(message(1), "Message-ID", "Massage-ID", 1)))
	r.drop.Add("u3", []byte(message(3)))
	check(t, r.store.Promise(t.Context(), "work", []state.Promise{{UID: "u3", Sink: "home", Token: "nothing"}}))
	got := r.outlook()
	if got["u1"] != "compare" || got["u3"] != "settle" {
		t.Errorf("got %v", got)
	}

	// Whoever only looks comes to the same sum.
	sight, err := r.account.Look(t.Context(), r.opts, nil)
	check(t, err)
	report, err := r.account.Check(t.Context(), r.opts)
	check(t, err)
	r.opts.DryRun = true
	if would := r.poll().Would; sight.Waiting != 1 || sight.Open != 1 || report.Outlook != sight.Outlook || *would != sight.Outlook {
		t.Errorf("seen %+v, checked %+v, in a dry run %+v", sight.Outlook, report.Outlook, *would)
	}
}

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
				line, _ := bufio.NewReader(header).ReadString('\n') // the rest is left unread
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

// A line that is cut while headers are looked at leaves no trace, whoever looks.
func TestLookIsCutOff(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
	r.account.Keep.Forever = true
	r.fill(3)
	r.succeed()
	r.drop.Behave(pop3test.Behaviour{}) // it names its messages now
	before := r.rows()
	dry := r.opts
	dry.DryRun = true
	for what, look := range map[string]func() error{
		"Check":     func() error { _, err := r.account.Check(t.Context(), r.opts); return err },
		"Look":      func() error { _, err := r.account.Look(t.Context(), r.opts, nil); return err },
		"a dry run": func() error { return r.account.Poll(t.Context(), dry).Err },
	} {
		r.drop.Order(pop3test.CutIn("TOP", 10, pop3test.Reset))
		if err := look(); err == nil || fetch.Classify(err) != fetch.ClassRetry {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(before, r.rows()); diff != "" {
			t.Errorf("%s changed rows (-was +is)\n%s", what, diff)
		}
		r.drop.ClearFaults()
	}
}
