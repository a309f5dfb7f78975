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
	kind     *sinkKind
	messages int  // on the server in the beginning
	batch    int  // messages in a batch
	overlap  bool // the next batch is staged before this one is committed
	sabotage sabotage
	// disk is the disk of the running process.
	disk *sharedDisk
}

// disturbance is what happens while a process runs.
type disturbance struct {
	quit quit // the outcome of its first QUIT with deletions
	move *move
	at   int  // the move is made before this step, from 1; 0 is before the process starts
	last bool // nothing else can happen after it: steps are not kept
}

// run is one process, from its start to the end of its poll.
type run struct {
	setting
	disturbance
	w      *world
	acting atomic.Bool // the move is being made

	mu        sync.Mutex
	steps     []step
	moved     bool  // the move had something to do
	violation error // the first promise that was broken meanwhile
}

// step is something that a process is about to do.
type step struct {
	what string
	// before is the world at that moment, with everything that is not durable yet.
	before *world
}

// step records the next step of the process, makes the move if it is due, and checks what
// a mail reader sees now.
func (r *run) step(what string) {
	if r.acting.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.move != nil && r.at == len(r.steps)+1 {
		r.makeMove()
	}
	r.acting.Store(true)
	defer r.acting.Store(false)
	if err := r.w.check(r.kind, r.messages, false); r.violation == nil && err != nil {
		r.violation = fmt.Errorf("%w, before %s", err, what)
	}
	s := step{what: what}
	if !r.last {
		s.before = r.w.fork()
	}
	r.steps = append(r.steps, s)
}

// makeMove makes the move of the disturbance.
func (r *run) makeMove() {
	r.acting.Store(true)
	if r.moved = r.move.do(r.w); r.moved {
		r.w.logf("%s, before step %d", r.move.name, r.at)
	}
	r.acting.Store(false)
}

// op is the hook that the disk calls before each operation.
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
		if name := r.kind.unique.FindString(filepath.Base(path)); name != "" && op.Verb == durabletest.Create {
			r.mu.Lock()
			r.w.createdFiles = append(r.w.createdFiles, created{name, r.w.now})
			r.mu.Unlock()
		}
	}
	if r.sabotage.op != nil {
		return r.sabotage.op(op)
	}
	return nil
}

// start runs a process in a copy of w, with the disturbance d.
func (s setting) start(w *world, d disturbance) (*run, error) {
	r := &run{setting: s, disturbance: d, w: w.fork()}
	r.quit = cmp.Or(r.quit, confirmed)
	if r.move != nil && r.at == 0 {
		r.makeMove()
		if !r.moved {
			return r, nil
		}
	}
	if d.quit != "" {
		r.w.logf("QUIT is %s", d.quit)
	}
	r.w.disk.OnOp(r.op)
	r.w.journal.step = r.step
	r.w.journal.faults = s.sabotage.journal
	r.w.journal.begin()
	return r, r.poll()
}

// poll opens the sink and polls the account once. A QUIT that goes wrong as d has it is no
// error.
func (r *run) poll() error {
	r.disk.FS, r.disk.step = r.w.disk, r.step
	now := func() time.Time { return r.w.now }
	sink, err := r.kind.open(r.disk, now)
	if err != nil {
		return err
	}
	if r.sabotage.sink != nil {
		sink = r.sabotage.sink(r, sink)
	}
	l := newSequencer(r.overlap)
	sequenced := &sequencedSink{sink, l, r.batch}

	var serving sync.WaitGroup
	pop := &server{w: r.w, step: r.step, quit: r.quit, eager: r.sabotage.eager}
	account := fetch.Account{
		Name: "work", User: "me",
		Secret: func(context.Context) (string, error) { return "secret", nil },
		Server: fetch.Server{Host: "pop.example.org", Security: fetch.PlainText,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				serving.Go(func() { pop.serve(theirs) })
				return ours, nil
			}},
		Deliver: []fetch.Target{{Name: "home", Sink: sequenced}},
	}
	summary := account.Poll(context.Background(), fetch.Options{
		State: sequencedJournal{r.w.journal, sequenced}, Now: now, Host: "here",
		Observer: func(e fetch.Event) {
			if p, ok := e.(fetch.Planned); ok {
				l.change(func() { l.want = l.staged + p.Fetch })
			}
		},
	})
	serving.Wait()
	err = sequenced.Close()
	if e := (*fetch.UnconfirmedError)(nil); errors.As(summary.Err, &e) && r.disturbance.quit != "" {
		return err
	}
	return errors.Join(summary.Err, err)
}

// sharedDisk is the disk of the running process. Sinks remember disks by identity, so that
// it is the same value in every process. Looking at a file is a step, too: what was seen
// may be gone when the process acts on it.
type sharedDisk struct {
	durable.FS
	step func(what string)
}

func (d *sharedDisk) Stat(name string) (fs.FileInfo, error) {
	d.step("stat " + name)
	return d.FS.Stat(name)
}

func (d *sharedDisk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.step("list " + name)
	return d.FS.ReadDir(name)
}
