package modeltest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/fetch"
)

// setting is what all processes of a model have in common.
type setting struct {
	place    *place
	messages int  // on the server in the beginning
	batch    int  // messages
	overlap  bool // the next batch is staged before this one is committed
	sabotage sabotage
	// disk is that of the process which is running; sinks remember disks.
	disk *seam
}

// disturbance is what happens while a process runs.
type disturbance struct {
	quit quit // how its first QUIT with deletions goes
	move *move
	at   int  // the step before which the move is made, 0 before all
	last bool // nothing else will happen, ever: steps are not kept
}

// run is one process, from its start to the end of its poll.
type run struct {
	setting
	disturbance
	w      *world
	acting atomic.Bool // the move is being made

	mu    sync.Mutex
	steps []step
	moved bool  // there was something to move
	seen  error // what a mail reader saw that it should not
}

// step is something that a process is about to do.
type step struct {
	what string
	// before is the world in which a crash at this moment would leave us, of
	// which nothing was lost yet.
	before *world
}

// step notes what comes next, and lets others act before it.
func (r *run) step(what string) {
	if r.acting.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.move != nil && r.at == len(r.steps)+1 {
		r.act()
	}
	r.acting.Store(true)
	defer r.acting.Store(false)
	if err := r.w.check(r.place, r.messages, false); r.seen == nil && err != nil {
		r.seen = fmt.Errorf("%w, before %s", err, what)
	}
	s := step{what: what}
	if !r.last {
		s.before = r.w.fork()
	}
	r.steps = append(r.steps, s)
}

// act makes the move.
func (r *run) act() {
	r.acting.Store(true)
	if r.moved = r.move.do(r.w); r.moved {
		r.w.happened("%s, before step %d", r.move.name, r.at)
	}
	r.acting.Store(false)
}

// op is a hook for the disk.
func (r *run) op(op durabletest.Op) error {
	if r.acting.Load() {
		return nil
	}
	what := fmt.Sprintf("%s %s", op.Verb, op.Path)
	if op.To != "" {
		what += " to " + op.To
	}
	r.step(what)
	for _, path := range []string{op.Path, op.To} {
		if name := r.place.unique.FindString(filepath.Base(path)); name != "" && op.Verb == durabletest.Create {
			r.mu.Lock()
			r.w.born = append(r.w.born, birth{name, r.w.now})
			r.mu.Unlock()
		}
	}
	if r.sabotage.op != nil {
		return r.sabotage.op(op)
	}
	return nil
}

// start runs a process in a copy of w, undisturbed but for d.
func (s setting) start(w *world, d disturbance) (*run, error) {
	r := &run{setting: s, disturbance: d, w: w.fork()}
	r.quit = cmp.Or(r.quit, confirmed)
	if r.move != nil && r.at == 0 {
		r.act()
		if !r.moved {
			return r, nil
		}
	}
	if d.quit != "" {
		r.w.happened("QUIT is %s", d.quit)
	}
	r.w.disk.OnOp(r.op)
	r.w.journal.mark = r.step
	r.w.journal.lies = s.sabotage.lies
	r.w.journal.begin()
	return r, r.poll()
}

func (r *run) poll() error {
	r.disk.FS, r.disk.step = r.w.disk, r.step
	now := func() time.Time { return r.w.now }
	sink, err := r.place.open(r.disk, now)
	if err != nil {
		return err
	}
	if r.sabotage.sink != nil {
		sink = r.sabotage.sink(r, sink)
	}
	l := newLane(r.overlap)
	laned := &inLane{sink, l, r.batch}

	var serving sync.WaitGroup
	pop := &server{w: r.w, mark: r.step, quit: r.quit, eager: r.sabotage.eager}
	account := fetch.Account{
		Name: "work", User: "me",
		Secret: func(context.Context) (string, error) { return "secret", nil },
		Server: fetch.Server{Host: "pop.example.org", Security: fetch.PlainText,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				serving.Go(func() { pop.serve(theirs) })
				return ours, nil
			}},
		Deliver: []fetch.Target{{Name: "home", Sink: laned}},
	}
	summary := account.Poll(context.Background(), fetch.Options{
		State: laneJournal{r.w.journal, laned}, Now: now, Host: "here",
		Observer: func(e fetch.Event) {
			if p, ok := e.(fetch.Planned); ok {
				l.change(func() { l.want = l.staged + p.Fetch })
			}
		},
	})
	serving.Wait()
	err = laned.Close()
	if e := (*fetch.UnconfirmedError)(nil); errors.As(summary.Err, &e) && r.disturbance.quit != "" {
		return err
	}
	return errors.Join(summary.Err, err)
}

// seam is a disk that is the same to a sink in every process. That a process
// looks somewhere is a step, too: what it sees may be gone when it acts.
type seam struct {
	durable.FS
	step func(what string)
}

func (d *seam) Stat(name string) (fs.FileInfo, error) {
	d.step("stat " + name)
	return d.FS.Stat(name)
}

func (d *seam) ReadDir(name string) ([]fs.DirEntry, error) {
	d.step("list " + name)
	return d.FS.ReadDir(name)
}
