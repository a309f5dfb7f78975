package modeltest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// model explores all that can happen from a beginning on.
type model struct {
	setting
	seen   visits // at rest
	passed visits // with a process at work
	tally  tally
}

// tally counts what was explored.
type tally struct {
	worlds  int // that a crash or an answer to QUIT left, all different
	crashes int // whose outcomes were looked at
	polls   int
}

// visit is a world and how many moves were left.
type visit struct {
	world [sha256.Size]byte
	moves int
}

// visits hold the most troubles that were left at a visit.
type visits map[visit]int

// visit reports whether there is anything new to see.
func (vs visits) visit(w *world, troubles, moves int) bool {
	v := visit{w.key(), moves}
	if left, ok := vs[v]; ok && left >= troubles {
		return false
	}
	vs[v] = troubles
	return true
}

// failure is a schedule that went wrong.
type failure struct {
	err     error
	history []string
	tree    string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%v, after\n%s\nwith, in the end,\n%s", f.err, strings.Join(f.history, "\n"), indent(f.tree))
}

// explore has up to so many troubles, crashes and bad answers to QUIT, and so
// many moves befall an account.
func (s setting) explore(troubles, moves int) (tally, error) {
	disk := durabletest.New()
	must(disk.Mkdir("/mail", 0o700))
	must(disk.SyncDir("/"))
	w := &world{disk: disk, journal: newJournal(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	for m := range s.messages {
		w.drop = append(w.drop, m)
	}
	s.disk = new(seam)
	m := &model{setting: s, seen: visits{}, passed: visits{}}
	err := m.explore(w, troubles, moves)
	return m.tally, err
}

func (m *model) explore(w *world, troubles, moves int) error {
	if !m.seen.visit(w, troubles, moves) {
		return nil
	}
	m.tally.worlds++

	calm, err := m.live(w, disturbance{}, troubles, moves)
	if err != nil {
		return err
	}
	if troubles > 0 {
		for _, q := range quits {
			if _, err := m.live(w, disturbance{quit: q}, troubles-1, moves); err != nil {
				return err
			}
		}
	}
	if moves == 0 {
		return nil
	}
	for i := range m.place.moves {
		move := &m.place.moves[i]
		for at := range len(calm.steps) + 1 {
			if at > 0 && (move.between || !move.would(calm.steps[at-1].before)) {
				continue
			}
			if _, err := m.live(w, disturbance{move: move, at: at}, troubles, moves-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// would reports whether there is something to do.
func (v *move) would(w *world) bool { return v.do(w.fork()) }

// live runs a process to its end, and on to the end of all work, and then
// looks at what a crash at each of its steps would have led to.
func (m *model) live(w *world, d disturbance, troubles, moves int) (*run, error) {
	d.last = troubles+moves == 0
	r, err := m.start(w, d)
	m.tally.polls++
	if err != nil {
		return r, &failure{fmt.Errorf("a poll failed: %w", err), r.w.history, r.w.disk.Tree()}
	}
	if r.seen != nil {
		return r, &failure{r.seen, r.w.history, r.w.disk.Tree()}
	}
	if d.move != nil && !r.moved {
		return r, nil
	}
	if err := m.settle(r.w); err != nil {
		return r, err
	}
	if d.quit != "" {
		return r, m.explore(r.w, troubles, moves)
	}
	for i, s := range r.steps {
		if i+1 < d.at {
			continue // as it was without the move
		}
		if troubles == 0 || !m.passed.visit(s.before, troubles, moves) {
			continue
		}
		for _, after := range s.before.crashes(fmt.Sprintf("step %d, %s", i+1, s.what)) {
			m.tally.crashes++
			if err := m.look(after, false); err != nil {
				return r, err
			}
			if err := m.explore(after, troubles-1, moves); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// enough is the number of polls without trouble in which all must be done.
const enough = 2

// settle polls until nothing is left to do, and checks that all is well,
// whether or not the power is cut then.
func (m *model) settle(w *world) error {
	for range enough {
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
	if err := m.look(w, true); err != nil {
		return err
	}
	if left, err := w.disk.ReadDir(m.place.staging); err == nil && len(left) > 0 {
		return &failure{errors.New("something is left where mail is staged"), w.history, w.disk.Tree()}
	}
	for disk := range w.disk.Fork().PowerCuts() {
		v := w.fork()
		v.disk = disk
		v.happened("power cut in the end, leaving\n%s", indent(disk.Tree()))
		if _, err := m.place.read(disk); err == errLocked {
			// The lock is back, and the next poll, which need not know that
			// the last one was followed by a power cut, has to see to it.
			r, err := m.start(v, disturbance{})
			if err != nil {
				return &failure{err, r.w.history, r.w.disk.Tree()}
			}
			v = r.w
		}
		if err := m.look(v, true); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) look(w *world, end bool) error {
	if err := w.check(m.place, m.messages, end); err != nil {
		return &failure{err, w.history, w.disk.Tree()}
	}
	return nil
}
