//go:build linux && amd64

package crashtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// workloads are small enough to be run some thousand times, and still have more than one
// session, or more than one batch in a session (a batch has at most 64 messages). Each is
// killed at so many points, and at so many random moments.
var workloads = []struct {
	messages, perSession       int
	points, random             int // kills in the short form
	pointsInFull, randomInFull int
}{
	{messages: 9, perSession: 4, points: 50, random: 20, pointsInFull: math.MaxInt, randomInFull: 300},
	{messages: 70, perSession: 100, points: 20, random: 10, pointsInFull: 400, randomInFull: 100},
}

var sinks = []string{"maildir", "mbox"}

// TestKill kills the program at every system call that others can notice, at random
// moments, and again while it recovers. After each kill a mail reader sees only whole
// messages. After one more run every message is there once, byte for byte, and nothing is
// left over.
func TestKill(t *testing.T) {
	table := fmt.Sprintf("%-8s %6s %5s %11s %5s %6s\n", "sink", "points", "lost", "duplicated", "torn", "stuck")
	for _, sink := range sinks {
		t.Run(sink, func(t *testing.T) {
			var total tally
			for _, form := range workloads {
				l := workload{sink: sink, messages: form.messages, perSession: form.perSession}
				n, random := form.points, form.random
				if full {
					n, random = form.pointsInFull, form.randomInFull
				}
				seen, replies, err := runUnharmed(l)
				if err != nil {
					t.Fatal(err)
				}
				points := pointsOf(seen)
				kills := sample(points, n)
				for range random {
					kills = append(kills, killAround(1+rand.N(replies), rand.Int64N(1<<rand.N(18)), rand.N(1<<rand.N(16))))
				}
				got := killAll(t, l, kills, points)
				t.Logf("%d messages, %d a session: a run has %d points; of %d kills, %d of them random, %d came in time",
					l.messages, l.perSession, len(points), len(kills), random, got.tried)
				total.add(got.verdict)
				total.tried += got.tried
			}
			table += fmt.Sprintf("%-8s %6d %5d %11d %5d %6d\n", sink,
				total.tried, total.lost, total.duplicated, total.torn, total.stuck)
			least := 60
			if full {
				least = 1000
			}
			if total.tried < least {
				t.Errorf("only %d kills came in time", total.tried)
			}
		})
	}
	t.Log("\n" + table)
}

// TestKillNotices spoils what a killed run has left behind, and expects TestKill's checks
// to count it.
func TestKillNotices(t *testing.T) {
	each := func(pattern string, do func(name string) error) func(*world) error {
		return func(w *world) error {
			names, err := filepath.Glob(w.path(pattern))
			for _, name := range names {
				if err := do(name); err != nil {
					return err
				}
			}
			return err
		}
	}
	cut := func(name string) error { return os.Truncate(name, 20) }
	for _, c := range []struct {
		name, sink string
		sabotage   func(*world) error
		want       verdict
	}{
		{"nothing", "maildir", nil, verdict{}},
		{"nothing", "mbox", nil, verdict{}},
		{"no memory", "maildir", each("state", os.RemoveAll), verdict{duplicated: 3}},
		{"no memory", "mbox", each("state", os.RemoveAll), verdict{duplicated: 3}},
		{"no mail", "maildir", each("Maildir/new/*", os.Remove), verdict{lost: 3}},
		{"no mail", "mbox", each("mbox/inbox", os.Remove), verdict{lost: 3}},
		{"cut files", "maildir", each("Maildir/new/*", cut), verdict{lost: 3, torn: 3}},
		{"cut files", "mbox", each("mbox/inbox", cut), verdict{lost: 3, torn: 1}},
		{"a lock", "mbox", func(w *world) error {
			w.drop.Add("uid-new", []byte("\n"))
			return os.WriteFile(w.path("mbox/inbox.lock"), []byte("1\n"), 0o644)
		}, verdict{lost: 3, stuck: 1}},
	} {
		t.Run(c.sink+" "+c.name, func(t *testing.T) {
			o, err := killAndRecover(workload{sink: c.sink, messages: 3, perSession: 4}, killBeforeQuit, nil, c.sabotage)
			if err != nil {
				t.Fatal(err)
			}
			if !o.tried || o.verdict != c.want {
				t.Errorf("counted %+v, want %+v: %q", o.verdict, c.want, o.found)
			}
		})
	}
}

// A kill comes at the system call that was named: killed before the n-th rename, there is
// one message less than killed after it.
func TestKillComesAtTheCall(t *testing.T) {
	l := workload{sink: "maildir", messages: 3, perSession: 3}
	seen, _, err := runUnharmed(l)
	if err != nil {
		t.Fatal(err)
	}
	hits := map[moment]int{}
	for i := range seen {
		// The order of calls differs a little from run to run.
		if !slices.ContainsFunc(seen[max(0, i-2):min(i+3, len(seen))], call.renames) {
			continue
		}
		for _, when := range []moment{before, after} {
			w, err := newWorld(scratch(), l)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			run, err := runTraced(w.fetch(), point{i + 1, when})
			if err != nil {
				t.Fatal(err)
			}
			if !run.killed || !run.seen[i].renames() {
				continue
			}
			hits[when]++
			want := -1 // the first rename puts the database in its place
			for _, c := range run.seen {
				if c.renames() {
					want++
				}
			}
			if when == before {
				want--
			}
			want = max(want, 0)
			mail, err := w.readMail()
			if len(mail) != want || err != nil {
				t.Errorf("killed %v, which renames: %d messages are there, not %d (%v)", point{i + 1, when}, len(mail), want, err)
			}
		}
	}
	if hits[before] == 0 || hits[after] == 0 {
		t.Errorf("no rename was hit: %v", hits)
	}
}

func (c call) renames() bool { return strings.HasPrefix(calls[c.number], "rename") }
