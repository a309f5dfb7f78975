package modeltest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// model explores everything that may happen to an account from a beginning on.
type model struct {
	setting
	atRest  visits // worlds without a running process
	running visits // worlds in which a process runs
	tally   tally
}

// tally counts what was explored.
type tally struct {
	worlds  int // different ones, left by a crash or at the end of a poll
	crashes int // kills and power cuts
	polls   int
}

// visit is a world and the number of moves that were left.
type visit struct {
	world [sha256.Size]byte
	moves int
}

// visits hold, for each world and number of moves left, the most faults that were left
// when it was explored.
type visits map[visit]int

// visit reports whether the world has not been explored yet with as many faults left, and
// notes that it is now.
func (vs visits) visit(w *world, faults, moves int) bool {
	v := visit{w.key(), moves}
	if left, ok := vs[v]; ok && left >= faults {
		return false
	}
	vs[v] = faults
	return true
}

// failure is a history that broke a promise.
type failure struct {
	err     error
	history []string
	tree    string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%v, after\n%s\nwith, in the end,\n%s", f.err, strings.Join(f.history, "\n"), indent(f.tree))
}

// explore explores all histories with at most so many faults, which are crashes and QUITs
// that go wrong, and so many moves.
func (s setting) explore(faults, moves int) (tally, error) {
	disk := durabletest.New()
	must(disk.Mkdir("/mail", 0o700))
	must(disk.SyncDir("/"))
	w := &world{disk: disk, journal: newJournal(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	for m := range s.messages {
		w.drop = append(w.drop, m)
	}
	s.disk = new(sharedDisk)
	m := &model{setting: s, atRest: visits{}, running: visits{}}
	err := m.explore(w, faults, moves)
	return m.tally, err
}

// explore explores what may happen from w on.
func (m *model) explore(w *world, faults, moves int) error {
	if !m.atRest.visit(w, faults, moves) {
		return nil
	}
	m.tally.worlds++

	calm, err := m.explorePoll(w, disturbance{}, faults, moves)
	if err != nil {
		return err
	}
	if faults > 0 {
		for _, q := range quits {
			if _, err := m.explorePoll(w, disturbance{quit: q}, faults-1, moves); err != nil {
				return err
			}
		}
	}
	if moves == 0 {
		return nil
	}
	for i := range m.kind.moves {
		move := &m.kind.moves[i]
		for at := range len(calm.steps) + 1 {
			if at > 0 && (move.between || !move.possible(calm.steps[at-1].before)) {
				continue
			}
			if _, err := m.explorePoll(w, disturbance{move: move, at: at}, faults, moves-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// possible reports whether the move has anything to do in w.
func (v *move) possible(w *world) bool { return v.do(w.fork()) }

// explorePoll runs a process with the disturbance d, and polls until all work is done.
// Then it explores what a crash before each step of the process would have led to.
func (m *model) explorePoll(w *world, d disturbance, faults, moves int) (*run, error) {
	d.last = faults+moves == 0
	r, err := m.start(w, d)
	m.tally.polls++
	if err != nil {
		return r, &failure{fmt.Errorf("a poll failed: %w", err), r.w.history, r.w.disk.Tree()}
	}
	if r.violation != nil {
		return r, &failure{r.violation, r.w.history, r.w.disk.Tree()}
	}
	if d.move != nil && !r.moved {
		return r, nil
	}
	if err := m.settle(r.w); err != nil {
		return r, err
	}
	if d.quit != "" {
		return r, m.explore(r.w, faults, moves)
	}
	for i, s := range r.steps {
		if i+1 < d.at {
			continue // explored without the move
		}
		if faults == 0 || !m.running.visit(s.before, faults, moves) {
			continue
		}
		for _, after := range s.before.crashes(fmt.Sprintf("step %d, %s", i+1, s.what)) {
			m.tally.crashes++
			if err := m.check(after, false); err != nil {
				return r, err
			}
			if err := m.explore(after, faults-1, moves); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// pollsToSettle is the number of polls without faults that must be enough to finish all
// work.
const pollsToSettle = 2

// settle polls until nothing is left to do, and checks the result, also after a power cut
// then.
func (m *model) settle(w *world) error {
	for range pollsToSettle {
		if w.done() {
			break
		}
		r, err := m.start(w, disturbance{})
		m.tally.polls++
		if err != nil {
			return &failure{fmt.Errorf("a later poll failed: %w", err), r.w.history, r.w.disk.Tree()}
		}
		w = r.w
	}
	if err := m.check(w, true); err != nil {
		return err
	}
	if left, err := w.disk.ReadDir(m.kind.staging); err == nil && len(left) > 0 {
		return &failure{errors.New("something is left where mail is staged"), w.history, w.disk.Tree()}
	}
	for disk := range w.disk.Fork().PowerCuts() {
		v := w.fork()
		v.disk = disk
		v.logf("power cut in the end, leaving\n%s", indent(disk.Tree()))
		if _, err := m.kind.read(disk); err == errLocked {
			// The power cut has brought the lock file back. The next poll must
			// remove it, and need not know of the power cut.
			r, err := m.start(v, disturbance{})
			if err != nil {
				return &failure{err, r.w.history, r.w.disk.Tree()}
			}
			v = r.w
		}
		if err := m.check(v, true); err != nil {
			return err
		}
	}
	return nil
}

// check returns a failure if w breaks a promise.
func (m *model) check(w *world, end bool) error {
	if err := w.check(m.kind, m.messages, end); err != nil {
		return &failure{err, w.history, w.disk.Tree()}
	}
	return nil
}
