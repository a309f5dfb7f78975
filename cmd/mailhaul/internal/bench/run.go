package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// entrant is a contender in a scenario, with what has become of it.
type entrant struct {
	contender
	job     job
	result  Result
	dropped bool
}

func (b *bench) measure(ctx context.Context, sc scenario) (Outcome, error) {
	o := Outcome{Date: time.Now().UTC().Format(time.DateOnly), Runs: b.runs}
	if sc.memory && b.memoryDir == "" {
		return o, fmt.Errorf("%s with %d MiB is needed", shm, minShmSpace>>20)
	}
	if err := os.RemoveAll(b.poolDir); err != nil {
		return o, err
	}
	pool, err := writePool(b.poolDir, sc.messages*sc.accounts, sc.size, b.runUID)
	if err != nil {
		return o, err
	}
	for _, m := range pool {
		o.Octets += m.size
	}
	f := &scenarioRun{bench: b, scenario: sc, pool: pool}
	for _, c := range sc.contenders {
		if b.canEnter(c) {
			f.entrants = append(f.entrants, &entrant{contender: c, result: Result{Contender: c.name, Peer: c.peer, Concurrent: c.concurrent, ProcessPerAccount: c.processPerAccount}})
		}
	}
	if sc.keep {
		if err := f.markAllSeen(ctx); err != nil {
			return o, err
		}
	}
	for round := range b.runs {
		for _, e := range f.entrants {
			if e.dropped {
				continue
			}
			u, err := f.measureOnce(ctx, e)
			if err != nil {
				return o, err
			}
			fmt.Fprintf(b.log, "%-8s %d/%d  %-26s %8.3f s  %s\n", sc.name, round+1, b.runs, e.name, u.Wall, u.Failure)
			e.result.add(u)
			if u.Failure != "" || u.Wall > b.slowRun.Seconds() {
				e.dropped = true
			}
		}
	}
	for _, e := range f.entrants {
		if e.result.Failure == "" {
			if err := f.countCalls(ctx, e); err != nil {
				return o, err
			}
		}
		o.Results = append(o.Results, e.result)
	}
	return o, f.removeJobs()
}

// enters reports whether a contender is wanted, and is there.
func (b *bench) canEnter(c contender) bool {
	if len(b.tools) > 0 && !slices.Contains(b.tools, c.program) && !slices.Contains(b.tools, c.name) {
		return false
	}
	if !c.peer {
		return true
	}
	if _, err := exec.LookPath(c.program); err != nil {
		fmt.Fprintf(b.log, "bench: %s is not installed\n", c.program)
		return false
	}
	return true
}

// field is a scenario that is being run.
type scenarioRun struct {
	*bench
	scenario
	pool     []message
	entrants []*entrant
}

func (f *scenarioRun) users() []string {
	users := make([]string, f.accounts)
	for i := range users {
		users[i] = userName(i)
	}
	return users
}

func (f *scenarioRun) fillMaildrops() error {
	for i, user := range f.users() {
		if err := f.server.fillMaildrop(user, f.pool[i*f.messages:(i+1)*f.messages]); err != nil {
			return fmt.Errorf("fill the maildrop of %s: %w", user, err)
		}
	}
	return nil
}

// enlist makes a contender's folder and tells the contender where to fetch:
// over a line, or from the server itself.
func (f *scenarioRun) prepareJob(e *entrant, viaRelay bool) error {
	parent := f.diskDir
	if f.scenario.memory {
		parent = f.bench.memoryDir
	}
	dir := filepath.Join(parent, "job")
	if f.keep { // what it remembers, it needs again
		dir = filepath.Join(parent, "job-"+strconv.Itoa(slices.Index(f.entrants, e)))
	}
	if err := makeDir(dir, f.runUID); err != nil {
		return err
	}
	host, addr := "127.0.0.1", f.server.Addr
	if viaRelay {
		addr = f.plainRelay.addr
	}
	e.job = job{dir: dir, users: f.users(), keep: f.keep, selfPath: f.selfPath, mailhaulPath: f.mailhaulPath}
	if f.scenario.tls {
		e.job.caFile, host, addr = f.caFile, "localhost", f.server.TLSAddr
		if viaRelay {
			addr = f.bench.tlsRelay.addr
		}
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	e.job.host, e.job.port = host, port
	return makeMaildir(e.job.maildir(), f.runUID)
}

// start runs a contender once, behind a wrapper if there is one.
func (f *scenarioRun) runCommands(ctx context.Context, e *entrant, wrapper ...string) (usage, error) {
	commands, err := e.prepare(e.job)
	if err != nil {
		return usage{}, err
	}
	files, err := filepath.Glob(filepath.Join(e.job.dir, "*"))
	if err != nil {
		return usage{}, err
	}
	for _, file := range files {
		if err := chownTo(file, f.runUID); err != nil {
			return usage{}, err
		}
	}
	for i := range commands {
		commands[i].Argv = slices.Concat(wrapper, commands[i].Argv)
	}
	// What others have written must not be synced at this one's cost.
	f.syncDisks()
	limited, cancel := context.WithTimeout(ctx, f.runLimit)
	defer cancel()
	u, err := f.launch(limited, launchRequest{Dir: e.job.dir, Env: environment(e.job), Commands: commands})
	if limited.Err() != nil && ctx.Err() == nil {
		return usage{Wall: f.runLimit.Seconds(), Failure: fmt.Sprintf("not done after %v", f.runLimit)}, nil
	}
	return u, err
}

// run is one run that counts.
func (f *scenarioRun) measureOnce(ctx context.Context, e *entrant) (usage, error) {
	f.plainRelay.rtt.Store(int64(f.rtt))
	f.bench.tlsRelay.rtt.Store(int64(f.rtt))
	return f.runAndVerify(ctx, e, f.rtt > 0)
}

// once fills the maildrops if need be, runs a contender and verifies what it
// has delivered.
func (f *scenarioRun) runAndVerify(ctx context.Context, e *entrant, viaRelay bool, wrapper ...string) (usage, error) {
	var want []sum
	if !f.keep {
		if err := f.fillMaildrops(); err != nil {
			return usage{}, err
		}
		if err := f.prepareJob(e, viaRelay); err != nil {
			return usage{}, err
		}
		want = f.wantedSums()
	}
	u, err := f.runCommands(ctx, e, wrapper...)
	if err != nil {
		return u, err
	}
	if err := verifyMaildir(e.job.maildir(), want, e.program == drainName); err != nil && u.Failure == "" {
		u.Failure = err.Error()
	}
	if f.keep {
		return u, nil
	}
	return u, f.discard(e.job.dir)
}

// discard empties what a run has left and puts it aside until all are done. An
// ext4 without a journal does not use the inode of a file again for minutes after
// it was removed, and looks at each such one for each new file: the more runs, the
// slower.
func (f *scenarioRun) discard(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Truncate(path, 0)
		}
		return err
	})
	f.discardedJobs++
	return errors.Join(err, os.Rename(dir, filepath.Join(filepath.Dir(dir), "done-"+strconv.Itoa(f.discardedJobs))))
}

func (f *scenarioRun) wantedSums() []sum {
	sums := make([]sum, len(f.pool))
	for i, m := range f.pool {
		sums[i] = m.sum
	}
	return sums
}

// seed lets each contender see all mail once, over a line without length.
func (f *scenarioRun) markAllSeen(ctx context.Context) error {
	if err := f.fillMaildrops(); err != nil {
		return err
	}
	f.plainRelay.rtt.Store(0)
	for _, e := range f.entrants {
		if err := f.prepareJob(e, true); err != nil {
			return err
		}
		var err error
		switch {
		case e.markSeen != nil:
			err = f.writeSeen(e)
		case e.program != drainName:
			err = f.fetchAll(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remind makes a contender remember all mail without having fetched it.
func (f *scenarioRun) writeSeen(e *entrant) error {
	for _, user := range f.users() {
		uids, err := f.server.listUIDs(user)
		if err != nil {
			return err
		}
		if err := e.markSeen(e.job, user, uids); err != nil {
			return err
		}
	}
	hidden, err := filepath.Glob(filepath.Join(e.job.dir, ".[a-z]*"))
	for _, file := range hidden {
		err = errors.Join(err, chownTo(file, f.runUID))
	}
	return err
}

// first lets a contender fetch all mail, into memory to be sooner done. It is
// then taken away, as its reader would.
func (f *scenarioRun) fetchAll(ctx context.Context, e *entrant) error {
	maildir, real := e.job.maildir(), e.job.maildir()
	if f.bench.memoryDir != "" {
		real = filepath.Join(f.bench.memoryDir, "seed")
		if err := errors.Join(makeMaildir(real, f.runUID), os.RemoveAll(maildir), os.Symlink(real, maildir)); err != nil {
			return err
		}
	}
	u, err := f.runCommands(ctx, e)
	if err != nil {
		return err
	}
	if err := verifyMaildir(maildir, f.wantedSums(), false); err != nil && u.Failure == "" {
		u.Failure = err.Error()
	}
	fmt.Fprintf(f.log, "%-8s first %-25s %8.3f s  %s\n", f.name, e.name, u.Wall, u.Failure)
	if u.Failure != "" {
		e.result.Failure, e.dropped = "the first fetch: "+u.Failure, true
	}
	return errors.Join(os.RemoveAll(maildir), os.RemoveAll(real), makeMaildir(maildir, f.runUID))
}

// count runs a contender once more, to count what cannot be counted without
// slowing it down: over a line, under strace.
func (f *scenarioRun) countCalls(ctx context.Context, e *entrant) error {
	f.plainRelay.rtt.Store(0)
	f.bench.tlsRelay.rtt.Store(0)
	before := f.plainRelay.count().plus(f.bench.tlsRelay.count())
	traces := filepath.Join(f.diskDir, "trace")
	if err := makeDir(traces, f.runUID); err != nil {
		return err
	}
	defer os.RemoveAll(traces)
	u, err := f.runAndVerify(ctx, e, true, straceCommand(traces)...)
	if err != nil {
		return err
	}
	if u.Failure != "" {
		fmt.Fprintf(f.log, "%-8s not counted: %s: %s\n", f.name, e.name, u.Failure)
		return nil
	}
	e.result.Traffic = f.plainRelay.count().plus(f.bench.tlsRelay.count()).minus(before)
	e.result.Syncs, err = countSyncs(traces)
	return err
}

// clear removes what the contenders remember.
func (f *scenarioRun) removeJobs() error {
	for _, e := range f.entrants {
		if err := os.RemoveAll(e.job.dir); err != nil {
			return err
		}
	}
	return nil
}
