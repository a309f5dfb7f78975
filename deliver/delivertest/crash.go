package delivertest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// RunCrash checks that each message arrives exactly once whatever happens, with
// batches of one to three messages and one crash. If crashes is 2, it also tries one
// message and two crashes. Then it checks that it finds each of the suite's Broken
// defects. It is for ExactlyOnce sinks.
func RunCrash(t *testing.T, s Suite, crashes int) {
	for _, test := range []struct{ messages, crashes int }{{1, 1}, {2, 1}, {3, 1}, {1, 2}} {
		if test.crashes > crashes || testing.Short() && test.messages*test.crashes > 1 {
			continue
		}
		t.Run(fmt.Sprintf("%d messages, %d crashes", test.messages, test.crashes), func(t *testing.T) {
			states, err := crash(s, test.messages, test.crashes, nil)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d restarts, each message exactly once", states)
		})
	}
	for _, b := range s.Broken {
		t.Run("broken: "+b.Name, func(t *testing.T) {
			for messages := range 3 {
				if _, err := crash(s, messages+1, 1, b.Op); err != nil {
					t.Log(err)
					return
				}
			}
			t.Error("nothing went wrong")
		})
	}
}

// crash fetches messages from a model of a server, on which landed messages are
// deleted. At each operation of the sink and each step of the caller it tries three
// things: the operation fails, the process is killed before it, the power is cut
// before it. Each time a new process settles the open promises and fetches what is
// left. It may crash as well, until there were so many crashes.
//
// The caller's journal is a model, too: a promise is durable once it is written; a
// landing may be forgotten; and a record whose writing failed may be there after all.
//
// crash returns the number of states from which it restarted. It returns an error if
// in the end a message is missing, duplicated or changed, or if a process after a crash
// fails or leaves a file that should not be there. A mail reader may see part of a
// message before the restart only if the suite is Torn. defect is a hook for each file
// system; it may be nil.
func crash(s Suite, messages, crashes int, defect func(durabletest.Op) error) (states int, err error) {
	r := &run{s: s, defect: defect}
	for i := range messages {
		// The second is larger than any buffer, so that it needs several writes.
		r.wire = append(r.wire, fmt.Sprintf("Subject: %d\r\n\r\nFrom me%s\r\n", i, strings.Repeat("x", 70_000*(i%2))))
	}
	fs := durabletest.New()
	if err := errors.Join(fs.Mkdir(root, 0o700), fs.SyncDir("/")); err != nil {
		return 0, err
	}
	first := &world{fs: fs, server: make(map[int]bool)}
	for i := range messages {
		first.server[i] = true
	}
	err = r.explore(first, crashes)
	return r.states, err
}

// run is one call of crash.
type run struct {
	s      Suite
	wire   []string // the messages
	defect func(durabletest.Op) error
	files  int // how many there are after a run in which nothing went wrong
	states int
}

// world is everything that outlives a process: the disk, the caller's journal, the
// server, and what the owner of the mailbox has taken.
type world struct {
	fs       *durabletest.FS
	promises []promise
	landed   []int // in the order of the journal
	durable  int   // how many of landed cannot be forgotten any more
	server   map[int]bool
	taken    []string
	// keepsFailed says that a record is in the journal although its writing failed.
	keepsFailed bool
}

// journal writes a record.
func (w *world) journal(what string, write func()) error {
	err := w.fs.Mark("journal " + what)
	if err == nil || w.keepsFailed && errors.Is(err, syscall.EIO) {
		write()
	}
	return err
}

type promise struct {
	message int
	token   string
}

// on returns a copy of the world with another state of the disk.
func (w *world) on(fs *durabletest.FS) *world {
	return &world{
		fs: fs, promises: slices.Clone(w.promises), landed: slices.Clone(w.landed), durable: w.durable,
		server: maps.Clone(w.server), taken: slices.Clone(w.taken),
	}
}

// explore runs a process in w undisturbed, and then, if crashes is not 0, once for
// each operation at which it may be disturbed.
func (r *run) explore(w *world, crashes int) error {
	r.states++
	undisturbed := w.on(w.fs.Kill())
	undisturbed.fs.OnOp(r.hook)
	if err := r.process(undisturbed); err != nil {
		return fmt.Errorf("restart: %w, in\n%s", err, w.fs.Tree())
	}
	if err := r.check(undisturbed, true); err != nil {
		return fmt.Errorf("%w, after a restart in\n%s", err, w.fs.Tree())
	}
	if crashes == 0 {
		return nil
	}
	for n := range undisturbed.fs.Ops() + 1 {
		if err := r.crash(w, n+1, crashes); err != nil {
			return err
		}
	}
	return nil
}

// crash disturbs a process at operation n in each possible way, and explores each state
// that this may leave.
func (r *run) crash(w *world, n, crashes int) error {
	var last durabletest.Op
	failAtN := func(opErr error, keepsFailed bool) (*world, error) {
		v := w.on(w.fs.Kill())
		v.keepsFailed = keepsFailed
		v.fs.OnOp(func(op durabletest.Op) error {
			if op.N == n {
				last = op
			}
			return nil
		})
		v.fs.OnOp(r.hook)
		v.fs.FailAt(n, opErr)
		return v, r.process(v)
	}
	failed := func(how string, err error) error {
		return fmt.Errorf("%s at operation %d (%s %s %s): %w", how, n, last.Verb, last.Path, last.To, err)
	}

	for _, keepsFailed := range []bool{false, true} {
		v, err := failAtN(syscall.EIO, keepsFailed)
		more := crashes - 1
		if last.Verb == durabletest.Sync {
			more = 0 // what a power cut takes after a failed fsync, no sink can know
		}
		if err == nil || last.Verb == durabletest.Mark || isMachine(err) {
			err = r.explore(v.on(v.fs.Kill()), more)
		} else {
			err = fmt.Errorf("not reported as FaultMachine: %w", err)
		}
		if err != nil {
			return failed("I/O error", err)
		}
		if last.Verb != durabletest.Mark {
			break
		}
	}

	v, _ := failAtN(durabletest.ErrCrashed, false)
	for after := range v.forget() {
		if err := r.restart(after, after.fs.Kill(), crashes-1); err != nil {
			return failed("kill", err)
		}
		// If an earlier power cut has kept both names of a rename and the owner takes
		// one, no sink can know that the other is not a new message.
		if r.s.Take == nil || after.fs.TwoNames() {
			continue
		}
		after = after.on(after.fs.Kill())
		taken, err := r.s.Take(after.fs, root)
		after.taken = append(after.taken, taken...)
		if err == nil {
			err = r.restart(after, after.fs.Kill(), crashes-1)
		}
		if err != nil {
			return failed("kill, and the owner took all mail,", err)
		}
	}

	for _, fs := range powerCuts(v.fs, crashes) {
		for after := range v.forget() {
			if err := r.restart(after, fs.Kill(), crashes-1); err != nil {
				return failed("power cut", err)
			}
		}
	}
	return nil
}

// powerCuts lists the different states after a power cut. If more crashes are to
// follow, it lists no more than twelve, the first and the last included.
func powerCuts(fs *durabletest.FS, crashes int) (list []*durabletest.FS) {
	seen := make(map[string]bool)
	for after := range fs.PowerCuts() {
		if tree := after.Tree(); !seen[tree] {
			seen[tree] = true
			list = append(list, after)
		}
	}
	const few = 12
	if crashes == 1 || len(list) <= few {
		return list
	}
	some := make([]*durabletest.FS, few)
	for i := range some {
		some[i] = list[i*(len(list)-1)/(few-1)]
	}
	return some
}

// isMachine reports whether err is an I/O error as a sink must report it.
func isMachine(err error) bool {
	var e *deliver.Error
	return errors.As(err, &e) && e.Fault == deliver.FaultMachine && errors.Is(err, syscall.EIO)
}

// restart checks what a mail reader sees after a crash, and then starts a process.
func (r *run) restart(w *world, fs *durabletest.FS, crashes int) error {
	w = w.on(fs)
	if !r.s.Torn {
		if err := r.check(w, false); err != nil {
			return fmt.Errorf("%w, before the restart", err)
		}
	}
	return r.explore(w, crashes)
}

// forget ranges over the journals that a crash may leave. It may lose records of
// landings that are not durable, the last ones first.
func (w *world) forget() iter.Seq[*world] {
	return func(yield func(*world) bool) {
		for n := w.durable; n <= len(w.landed); n++ {
			v := w.on(w.fs)
			v.landed = v.landed[:n]
			if !yield(v) {
				return
			}
		}
	}
}

func (r *run) hook(op durabletest.Op) error {
	if r.defect == nil {
		return nil
	}
	return r.defect(op)
}

// process does what a process of the caller does: it settles the promises, sweeps,
// fetches, and deletes from the server what has landed.
func (r *run) process(w *world) error {
	ctx := context.Background()
	sink, err := r.s.Open(w.fs, root)
	if err != nil {
		return err
	}
	defer sink.Close()
	land := func(message int) error {
		return w.journal("that a message landed", func() { w.landed = append(w.landed, message) })
	}

	w.durable = len(w.landed) // the caller makes its journal durable before it reads it
	for len(w.promises) > 0 {
		p := w.promises[0]
		if !slices.Contains(w.landed, p.message) {
			switch v, err := sink.Settle(ctx, p.token); {
			case err != nil:
				return err
			case v == deliver.Landed:
				if err := land(p.message); err != nil {
					return err
				}
				w.durable = len(w.landed)
			}
		}
		if err := w.journal("that a promise is settled", func() { w.promises = w.promises[1:] }); err != nil {
			return err
		}
	}
	if err := sink.Sweep(ctx, "work"); err != nil {
		return err
	}
	if err := r.fetch(ctx, w, sink, land); err != nil {
		return err
	}
	if err := w.fs.Mark("QUIT"); err != nil {
		return err
	}
	for _, message := range w.landed {
		delete(w.server, message)
	}
	return w.fs.Mark("journal that all is deleted")
}

// fetch delivers what is on the server and has not landed, in one batch.
func (r *run) fetch(ctx context.Context, w *world, sink deliver.Sink, land func(int) error) error {
	var messages []int
	for message := range r.wire {
		if w.server[message] && !slices.Contains(w.landed, message) {
			messages = append(messages, message)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	b, err := sink.Begin(ctx)
	if err != nil {
		return err
	}
	defer b.Abort()
	for _, message := range messages {
		if _, err := b.Stage(ctx, mail(fmt.Sprint(message)), strings.NewReader(r.wire[message])); err != nil {
			return err
		}
	}
	promises, err := b.Prepare(ctx)
	if err != nil {
		return err
	}
	err = w.journal("the promises", func() {
		for i, p := range promises {
			w.promises = append(w.promises, promise{messages[i], p.Token})
		}
	})
	if err != nil {
		return err
	}
	return b.Commit(ctx, func(rec deliver.Receipt) error {
		if rec.Err != nil {
			return rec.Err
		}
		return land(messages[rec.Ticket])
	})
}

// check checks that a mail reader sees each message at most once, and unchanged. If end
// is true, it must see every message, and there must be no file that is not needed.
func (r *run) check(w *world, end bool) error {
	got, err := r.s.Read(w.fs, root)
	if err != nil {
		if !end {
			return nil // there is no mailbox yet
		}
		return err
	}
	count := make(map[string]int)
	for _, m := range append(got, w.taken...) {
		count[m]++
	}
	for i, wire := range r.wire {
		m := r.s.canon(wire)
		if n := count[m]; n > 1 || end && n != 1 {
			return fmt.Errorf("message %d is there %d times", i, n)
		}
		delete(count, m)
	}
	for m := range count {
		return fmt.Errorf("a message that was never sent: %q", clip(m))
	}
	if end && len(w.taken) == 0 {
		files := strings.Count(w.fs.Tree(), "\n")
		if r.files == 0 {
			r.files = files
		}
		if files != r.files {
			return fmt.Errorf("%d files, not %d:\n%s", files, r.files, w.fs.Tree())
		}
		if open := w.fs.OpenFiles(); len(open) > 0 {
			return fmt.Errorf("still open: %q", open)
		}
	}
	return nil
}
