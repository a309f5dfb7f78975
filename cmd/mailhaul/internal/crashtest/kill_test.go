//go:build linux && amd64

package crashtest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// kill has a run of the program killed. It returns whether the program lived long enough
// for that, and where it was killed.
type kill func(w *world) (killed bool, where string, err error)

// killAt kills the program at a system call.
func killAt(p point) kill {
	return func(w *world) (bool, string, error) {
		t, err := runTraced(w.fetch(), p)
		where := p.String()
		if t.killed && len(t.seen) >= p.call {
			where += " (" + calls[t.seen[p.call-1].number] + ")"
		}
		return t.killed, where, err
	}
}

// killAround kills the program at a random instruction: some turns of the scheduler after
// the server has sent so many bytes of its n-th reply, or all of it.
func killAround(n int, bytes int64, turns int) kill {
	return func(w *world) (bool, string, error) {
		now := w.after(n, bytes, turns)
		e, err := w.fetch().run(now)
		w.drop.ClearFaults()
		return e.killed, fmt.Sprintf("%d turns after %d bytes of reply %d", turns, bytes, n), err
	}
}

// after returns a channel that is closed some turns of the scheduler after the server
// has sent so many bytes of its n-th reply, or all of it.
func (w *world) after(n int, bytes int64, turns int) <-chan struct{} {
	now := make(chan struct{})
	var replies atomic.Int64
	w.drop.Order(pop3test.On("", func(x *pop3test.Exchange) {
		x.Act()
		if replies.Add(1) == int64(n) {
			x.Reply = &triggerReader{Reader: x.Reply, left: bytes, trigger: sync.OnceFunc(func() {
				for range turns {
					runtime.Gosched()
				}
				close(now)
			})}
		}
	}))
	return now
}

// triggerReader is a reader that calls trigger once so many bytes were read, or all.
type triggerReader struct {
	io.Reader
	left    int64
	trigger func()
}

func (f *triggerReader) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.left -= int64(n); f.left <= 0 || err != nil {
		go f.trigger()
	}
	return n, err
}

// killBeforeQuit kills the program when all is delivered and the first DELE has come. The
// server does not see a QUIT that may be right behind it.
func killBeforeQuit(w *world) (bool, string, error) {
	now, dead := make(chan struct{}), make(chan struct{})
	w.drop.Order(pop3test.On("DELE", func(x *pop3test.Exchange) {
		close(now)
		x.Wait(dead)
		x.Reply = iotest.ErrReader(pop3test.HangUp)
	}).Times(1))
	e, err := w.fetch().run(now)
	close(dead)
	w.drop.ClearFaults()
	return e.killed, "at the first DELE", err
}

// runUnharmed runs the program once without a kill. It returns the system calls that it
// made, and how many replies the server gave.
func runUnharmed(l workload) (seen []call, replies int, err error) {
	w, err := newWorld(scratch(), l)
	if err != nil {
		return nil, 0, err
	}
	defer w.close()
	t, err := runTraced(w.fetch(), noPoint)
	if err != nil {
		return nil, 0, err
	}
	if t.killed || t.code != 0 {
		return nil, 0, fmt.Errorf("exit code %d:\n%s", t.code, t.output)
	}
	return t.seen, len(w.drop.Log()), nil
}

// pointsOf returns a kill for each moment of each system call.
func pointsOf(seen []call) []kill {
	var points []kill
	for i, c := range seen {
		points = append(points, killAt(point{i + 1, before}), killAt(point{i + 1, after}))
		if c.size() > 1 {
			points = append(points, killAt(point{i + 1, halfway}))
		}
	}
	return points
}

// outcome is what became of one kill.
type outcome struct {
	verdict
	tried bool
	found []string // what went wrong, and where it was killed
}

// killAndRecover has a run killed, looks at the mail, runs the program again, and counts
// what went wrong. Each kill of again comes in a run after that. sabotage, if it is not
// nil, spoils what each killed run has left behind.
func killAndRecover(l workload, first kill, again []kill, sabotage func(*world) error) (o outcome, err error) {
	w, err := newWorld(scratch(), l)
	if err != nil {
		return o, err
	}
	defer w.close()
	var where []string
	note := func(v verdict, found []string) {
		o.add(v)
		o.found = append(o.found, found...)
	}
	for i, k := range append([]kill{first}, again...) {
		killed, at, err := k(w)
		if err != nil {
			return o, err
		}
		where = append(where, at)
		o.tried = o.tried || killed
		if i == 0 && !killed {
			return o, nil // the run ended before that point
		}
		mail, err := w.readMail()
		if err != nil {
			return o, err
		}
		note(w.compare(mail, false))
		if sabotage != nil {
			err = sabotage(w)
		} else {
			err = w.handleMail()
		}
		if err != nil {
			return o, err
		}
	}
	// One run without a kill must recover everything.
	e, err := w.fetch().run(nil)
	if err != nil {
		return o, err
	}
	left, err := w.leftovers()
	if err != nil {
		return o, err
	}
	if e.killed || e.code != 0 || len(left) > 0 {
		note(verdict{stuck: 1}, []string{fmt.Sprintf("exit code %d, left are %q:\n%s", e.code, left, e.output)})
	}
	mail, err := w.readMail()
	if err != nil {
		return o, err
	}
	note(w.compare(mail, true))
	if len(o.found) > 0 {
		o.found = append(o.found, fmt.Sprintf("killed %q", where))
	}
	return o, nil
}

// tally is the sum of many outcomes.
type tally struct {
	verdict
	tried int
}

// killAll tries each of kills. At random the run that recovers is killed, too, at one of
// points, and the one after that.
func killAll(t *testing.T, l workload, kills, points []kill) tally {
	t.Helper()
	var total tally
	var mu sync.Mutex
	next := make(chan kill)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for k := range next {
				var again []kill
				for rand.N(3) == 0 {
					again = append(again, points[rand.N(len(points))])
				}
				o, err := killAndRecover(l, k, again, nil)
				mu.Lock()
				if err != nil {
					t.Error(err)
				}
				total.add(o.verdict)
				if o.tried {
					total.tried++
				}
				for _, line := range o.found {
					t.Error(line)
				}
				mu.Unlock()
			}
		})
	}
	for _, k := range kills {
		next <- k
	}
	close(next)
	wg.Wait()
	return total
}

// sample returns n of kills, evenly spread, beginning with a random one.
func sample(kills []kill, n int) []kill {
	if n >= len(kills) {
		return slices.Clone(kills)
	}
	start := rand.Float64()
	some := make([]kill, n)
	for i := range some {
		some[i] = kills[int((float64(i)+start)*float64(len(kills))/float64(n))]
	}
	return some
}
