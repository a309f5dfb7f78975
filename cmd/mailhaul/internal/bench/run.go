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

// scenarioRun is a scenario while it is run.
type scenarioRun struct {
	*bench
	scenario
	pool     []message
	entrants []*entrant
}

// entrant is a contender that takes part in a scenario.
type entrant struct {
	contender
	job    job
	result Result
	done   bool // it is not run again, since it has failed or is too slow
}

// measure runs a scenario with all its contenders. In each round, every contender runs
// once, so that changes of the machine's load concern all of them.
func (b *bench) measure(ctx context.Context, sc scenario) (Outcome, error) {
	o := Outcome{Date: time.Now().UTC().Format(time.DateOnly), Runs: b.runs}
	r, err := b.newScenarioRun(sc)
	if err != nil {
		return o, err
	}
	for _, m := range r.pool {
		o.Octets += m.size
	}
	if sc.keep {
		if err := r.markAllSeen(ctx); err != nil {
			return o, err
		}
	}
	for round := range b.runs {
		for _, e := range r.entrants {
			if e.done {
				continue
			}
			u, err := r.measureOnce(ctx, e)
			if err != nil {
				return o, err
			}
			fmt.Fprintf(b.log, "%-8s %d/%d  %-26s %8.3f s  %s\n", sc.name, round+1, b.runs, e.name, u.Wall, u.Failure)
			e.result.add(u)
			e.done = u.Failure != "" || u.Wall > b.slowRun.Seconds()
		}
	}
	for _, e := range r.entrants {
		if e.result.Failure == "" {
			if err := r.countCalls(ctx, e); err != nil {
				return o, err
			}
		}
		o.Results = append(o.Results, e.result)
	}
	return o, r.removeJobs()
}

// newScenarioRun composes the messages of a scenario, and finds out who takes part.
func (b *bench) newScenarioRun(sc scenario) (*scenarioRun, error) {
	if sc.memory && b.memoryDir == "" {
		return nil, fmt.Errorf("%s with %d MiB is needed", sharedMemory, minMemorySpace>>20)
	}
	if err := os.RemoveAll(b.poolDir); err != nil {
		return nil, err
	}
	pool, err := writePool(b.poolDir, sc.messages*sc.accounts, sc.size, b.runUID)
	if err != nil {
		return nil, err
	}
	r := &scenarioRun{bench: b, scenario: sc, pool: pool}
	for _, c := range sc.contenders {
		if b.takesPart(c) {
			result := Result{Contender: c.name, Peer: c.peer, Concurrent: c.concurrent, ProcessPerAccount: c.processPerAccount}
			r.entrants = append(r.entrants, &entrant{contender: c, result: result})
		}
	}
	return r, nil
}

// takesPart reports whether a contender is chosen by -tools, and installed.
func (b *bench) takesPart(c contender) bool {
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

func (r *scenarioRun) users() []string {
	users := make([]string, r.accounts)
	for i := range users {
		users[i] = userName(i)
	}
	return users
}

func (r *scenarioRun) fillMaildrops() error {
	for i, user := range r.users() {
		if err := r.server.fillMaildrop(user, r.pool[i*r.messages:(i+1)*r.messages]); err != nil {
			return fmt.Errorf("fill the maildrop of %s: %w", user, err)
		}
	}
	return nil
}

// poolSums returns the sums of all messages.
func (r *scenarioRun) poolSums() []sum {
	sums := make([]sum, len(r.pool))
	for i, m := range r.pool {
		sums[i] = m.sum
	}
	return sums
}

// setRTT sets the round trip that the relays simulate.
func (r *scenarioRun) setRTT(rtt time.Duration) {
	r.plainRelay.rtt.Store(int64(rtt))
	r.tlsRelay.rtt.Store(int64(rtt))
}

// traffic returns what has gone through both relays so far.
func (r *scenarioRun) traffic() traffic { return r.plainRelay.traffic().plus(r.tlsRelay.traffic()) }

// prepareJob gives a contender a new job, with a folder. It connects to a relay or to the
// server itself.
func (r *scenarioRun) prepareJob(e *entrant, viaRelay bool) error {
	parent := r.diskDir
	if r.memory {
		parent = r.memoryDir
	}
	dir := filepath.Join(parent, "job")
	if r.keep { // each contender needs its state again in the next run
		dir = filepath.Join(parent, "job-"+strconv.Itoa(slices.Index(r.entrants, e)))
	}
	if err := makeDir(dir, r.runUID); err != nil {
		return err
	}
	j := job{dir: dir, users: r.users(), keep: r.keep, selfPath: r.selfPath, mailhaulPath: r.mailhaulPath}
	host, addr, relay := "127.0.0.1", r.server.Addr, r.plainRelay
	if r.tls {
		j.caFile = r.caFile
		host, addr, relay = "localhost", r.server.TLSAddr, r.tlsRelay
	}
	if viaRelay {
		addr = relay.addr
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	j.host, j.port = host, port
	e.job = j
	return makeMaildir(j.maildir(), r.runUID)
}

// runCommands runs a contender once. If there is a wrapper, it is a command that runs
// each of the contender's commands.
func (r *scenarioRun) runCommands(ctx context.Context, e *entrant, wrapper ...string) (usage, error) {
	commands, err := e.prepare(e.job)
	if err != nil {
		return usage{}, err
	}
	files, err := filepath.Glob(filepath.Join(e.job.dir, "*"))
	if err != nil {
		return usage{}, err
	}
	for _, file := range files {
		if err := chownTo(file, r.runUID); err != nil {
			return usage{}, err
		}
	}
	for i := range commands {
		commands[i].Argv = slices.Concat(wrapper, commands[i].Argv)
	}
	// Otherwise this contender would have to sync what others have written.
	r.syncDisks()
	limited, cancel := context.WithTimeout(ctx, r.runLimit)
	defer cancel()
	u, err := r.launch(limited, launchRequest{Dir: e.job.dir, Env: environment(e.job), Commands: commands})
	if limited.Err() != nil && ctx.Err() == nil {
		return usage{Wall: r.runLimit.Seconds(), Failure: fmt.Sprintf("not done after %v", r.runLimit)}, nil
	}
	return u, err
}

// measureOnce does one of the runs that are measured.
func (r *scenarioRun) measureOnce(ctx context.Context, e *entrant) (usage, error) {
	r.setRTT(r.rtt)
	return r.runAndVerify(ctx, e, r.rtt > 0)
}

// runAndVerify runs a contender once and verifies what it has delivered. In scenarios
// without keep, the maildrops are filled again and the job is new.
func (r *scenarioRun) runAndVerify(ctx context.Context, e *entrant, viaRelay bool, wrapper ...string) (usage, error) {
	var want []sum
	if !r.keep {
		if err := r.fillMaildrops(); err != nil {
			return usage{}, err
		}
		if err := r.prepareJob(e, viaRelay); err != nil {
			return usage{}, err
		}
		want = r.poolSums()
	}
	u, err := r.runCommands(ctx, e, wrapper...)
	if err != nil {
		return u, err
	}
	if err := verifyMaildir(e.job.maildir(), want, e.program == drainName); err != nil && u.Failure == "" {
		u.Failure = err.Error()
	}
	if r.keep {
		return u, nil
	}
	return u, r.discard(e.job.dir)
}

// discard empties the files of a job and renames its folder, which tearDown removes. If
// it removed them now, later runs would be slower: without a journal, ext4 does not use
// the inode of a removed file again for minutes, and examines all such inodes for each
// new file.
func (r *scenarioRun) discard(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Truncate(path, 0)
		}
		return err
	})
	r.discardedJobs++
	return errors.Join(err, os.Rename(dir, filepath.Join(filepath.Dir(dir), "done-"+strconv.Itoa(r.discardedJobs))))
}

// markAllSeen makes each contender believe that it has fetched all mail already. The jobs
// go through a relay even if the scenario has no round trip: some contenders remember
// messages by the port of the server, which countCalls must not change.
func (r *scenarioRun) markAllSeen(ctx context.Context) error {
	if err := r.fillMaildrops(); err != nil {
		return err
	}
	r.setRTT(0)
	for _, e := range r.entrants {
		if err := r.prepareJob(e, true); err != nil {
			return err
		}
		var err error
		switch {
		case e.markSeen != nil:
			err = r.writeSeen(e)
		case e.program != drainName:
			err = r.fetchAll(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeSeen writes all messages into the file in which a peer remembers what it has
// fetched.
func (r *scenarioRun) writeSeen(e *entrant) error {
	for _, user := range r.users() {
		uids, err := r.server.listUIDs(user)
		if err != nil {
			return err
		}
		if err := e.markSeen(e.job, user, uids); err != nil {
			return err
		}
	}
	// runCommands changes the owner of other files.
	hidden, err := filepath.Glob(filepath.Join(e.job.dir, ".[a-z]*"))
	for _, file := range hidden {
		err = errors.Join(err, chownTo(file, r.runUID))
	}
	return err
}

// fetchAll lets a contender fetch all mail, and empties its Maildir afterwards. To save
// time, the Maildir is in memory if possible.
func (r *scenarioRun) fetchAll(ctx context.Context, e *entrant) error {
	maildir := e.job.maildir()
	target := maildir
	if r.memoryDir != "" {
		target = filepath.Join(r.memoryDir, "seed")
		if err := errors.Join(makeMaildir(target, r.runUID), os.RemoveAll(maildir), os.Symlink(target, maildir)); err != nil {
			return err
		}
	}
	u, err := r.runCommands(ctx, e)
	if err != nil {
		return err
	}
	if err := verifyMaildir(maildir, r.poolSums(), false); err != nil && u.Failure == "" {
		u.Failure = err.Error()
	}
	fmt.Fprintf(r.log, "%-8s first %-25s %8.3f s  %s\n", r.name, e.name, u.Wall, u.Failure)
	if u.Failure != "" {
		e.result.Failure, e.done = "the first fetch: "+u.Failure, true
	}
	return errors.Join(os.RemoveAll(maildir), os.RemoveAll(target), makeMaildir(maildir, r.runUID))
}

// countCalls runs a contender once more, through a relay and with strace, to count its
// turns, connections and syncs. This run is not measured, since counting slows it down.
func (r *scenarioRun) countCalls(ctx context.Context, e *entrant) error {
	r.setRTT(0)
	before := r.traffic()
	traces := filepath.Join(r.diskDir, "trace")
	if err := makeDir(traces, r.runUID); err != nil {
		return err
	}
	defer os.RemoveAll(traces)
	u, err := r.runAndVerify(ctx, e, true, straceCommand(traces)...)
	if err != nil {
		return err
	}
	if u.Failure != "" {
		fmt.Fprintf(r.log, "%-8s not counted: %s: %s\n", r.name, e.name, u.Failure)
		return nil
	}
	e.result.Traffic = r.traffic().minus(before)
	e.result.Syncs, err = countSyncs(traces)
	return err
}

// removeJobs removes the folders of the jobs that have not been discarded.
func (r *scenarioRun) removeJobs() error {
	for _, e := range r.entrants {
		if err := os.RemoveAll(e.job.dir); err != nil {
			return err
		}
	}
	return nil
}
