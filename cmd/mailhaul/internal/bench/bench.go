package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// bench is the bench that everybody is measured on.
type bench struct {
	err      io.Writer // what is being done
	runs     int
	patience time.Duration // who takes longer once is not run again
	limit    time.Duration // of one run
	tools    []string      // programs to run; none: all that there are

	self   string // this program, where every user may run it
	our    string // mailhaul
	owner  int    // who runs the fetchers, and owns the mail
	disk   string // folders for jobs
	memory string // the same in memory; "" if there is none
	ca     string
	pool   string
	server *server
	plain  *line
	tls    *line
}

// nobody runs the fetchers if root runs the program: some refuse root, and
// others drop what root may do first.
const nobody = 65534

// shm is where systems have a file system in memory. In a container it may be
// too small.
const (
	shm      = "/dev/shm"
	shmSpace = 1 << 30
)

// setUp starts the server. The folders are made in dir. tearDown may be called
// even if it fails.
func (b *bench) setUp(ctx context.Context, dir string) error {
	b.owner = os.Getuid()
	if b.owner == 0 {
		b.owner = nobody
	}
	var err error
	if b.disk, err = workFolder(dir); err != nil {
		return err
	}
	parent := b.disk
	if free(shm) >= shmSpace {
		if b.memory, err = workFolder(shm); err != nil {
			return err
		}
		parent = b.memory
	}
	b.pool = filepath.Join(parent, "pool")
	if b.server, err = startServer(parent, b.owner); err != nil {
		return err
	}
	if b.plain, err = newLine(ctx, b.server.Addr); err != nil {
		return err
	}
	if b.tls, err = newLine(ctx, b.server.TLSAddr); err != nil {
		return err
	}
	// The fetchers may be another user, whom the folder of the server keeps out.
	b.ca = filepath.Join(b.disk, "ca.pem")
	if err := copyFile(b.ca, b.server.CAFile, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.self = filepath.Join(b.disk, "bench")
	return copyFile(b.self, self, 0o755)
}

// build compiles mailhaul as `make build` does.
func (b *bench) build(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list: %w: run it inside the sources", err)
	}
	b.our = filepath.Join(b.disk, "mailhaul")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-ldflags", "-s -w", "-o", b.our, "./cmd/mailhaul")
	cmd.Dir = string(root[:len(root)-1])
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = b.err
	return cmd.Run()
}

func (b *bench) tearDown() {
	if b.server != nil {
		b.server.host.end()
	}
	for _, dir := range []string{b.disk, b.memory} {
		if dir == "" {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(b.err, "bench:", err)
		}
	}
}

// free returns how many octets a file system has left for everybody.
func free(dir string) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0 // it is not there
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}

func workFolder(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func copyFile(to, from string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, mode)
}

// entrant is a contender in a scenario, with what has become of it.
type entrant struct {
	contender
	job     job
	result  Result
	retired bool
}

// measure runs one scenario.
func (b *bench) measure(ctx context.Context, sc scenario) (Outcome, error) {
	o := Outcome{Scenario: sc.name, Date: time.Now().UTC().Format(time.DateOnly), Runs: b.runs}
	if sc.memory && b.memory == "" {
		return o, fmt.Errorf("%s with %d MiB is needed", shm, shmSpace>>20)
	}
	if err := os.RemoveAll(b.pool); err != nil {
		return o, err
	}
	pool, err := writePool(b.pool, sc.messages*sc.accounts, sc.size, b.owner)
	if err != nil {
		return o, err
	}
	for _, m := range pool {
		o.Octets += m.size
	}
	f := &field{bench: b, scenario: sc, pool: pool}
	for _, c := range sc.contenders {
		if b.enters(c) {
			f.entrants = append(f.entrants, &entrant{contender: c, result: Result{Contender: c.name, Peer: c.peer, Many: c.many}})
		}
	}
	if sc.keep {
		if err := f.seed(ctx); err != nil {
			return o, err
		}
	}
	for round := range b.runs {
		for _, e := range f.entrants {
			if e.retired {
				continue
			}
			u, err := f.run(ctx, e)
			if err != nil {
				return o, err
			}
			fmt.Fprintf(b.err, "%-8s %d/%d  %-26s %8.3f s  %s\n", sc.name, round+1, b.runs, e.name, u.Wall, u.Failure)
			e.result.add(u)
			if u.Failure != "" || u.Wall > b.patience.Seconds() {
				e.retired = true
			}
		}
	}
	for _, e := range f.entrants {
		if e.result.Failure == "" {
			if err := f.count(ctx, e); err != nil {
				return o, err
			}
		}
		o.Results = append(o.Results, e.result)
	}
	return o, f.clear()
}

// enters reports whether a contender is wanted, and is there.
func (b *bench) enters(c contender) bool {
	if len(b.tools) > 0 && !slices.Contains(b.tools, c.program) && !slices.Contains(b.tools, c.name) {
		return false
	}
	if !c.peer {
		return true
	}
	if _, err := exec.LookPath(c.program); err != nil {
		fmt.Fprintf(b.err, "bench: %s is not installed\n", c.program)
		return false
	}
	return true
}

// field is a scenario that is being run.
type field struct {
	*bench
	scenario
	pool     []mail
	entrants []*entrant
}

func (f *field) users() []string {
	users := make([]string, f.accounts)
	for i := range users {
		users[i] = userName(i)
	}
	return users
}

func (f *field) refill() error {
	for i, user := range f.users() {
		if err := f.server.refill(user, f.pool[i*f.messages:(i+1)*f.messages]); err != nil {
			return fmt.Errorf("fill the maildrop of %s: %w", user, err)
		}
	}
	return nil
}

// enlist makes a contender's folder and tells the contender where to fetch:
// over a line, or from the server itself.
func (f *field) enlist(e *entrant, over bool) error {
	parent := f.disk
	if f.scenario.memory {
		parent = f.bench.memory
	}
	dir := filepath.Join(parent, "job")
	if f.keep { // what it remembers, it needs again
		dir = filepath.Join(parent, "job-"+strconv.Itoa(slices.Index(f.entrants, e)))
	}
	if err := makeDir(dir, f.owner); err != nil {
		return err
	}
	host, addr := "127.0.0.1", f.server.Addr
	if over {
		addr = f.plain.addr
	}
	e.job = job{dir: dir, users: f.users(), keep: f.keep, self: f.self, our: f.our}
	if f.scenario.tls {
		e.job.ca, host, addr = f.ca, "localhost", f.server.TLSAddr
		if over {
			addr = f.bench.tls.addr
		}
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	e.job.host, e.job.port = host, port
	return makeMaildir(e.job.maildir(), f.owner)
}

// start runs a contender once, behind a wrapper if there is one.
func (f *field) start(ctx context.Context, e *entrant, wrapper ...string) (usage, error) {
	commands, err := e.prepare(e.job)
	if err != nil {
		return usage{}, err
	}
	files, err := filepath.Glob(filepath.Join(e.job.dir, "*"))
	if err != nil {
		return usage{}, err
	}
	for _, file := range files {
		if err := give(file, f.owner); err != nil {
			return usage{}, err
		}
	}
	for i := range commands {
		commands[i].Argv = slices.Concat(wrapper, commands[i].Argv)
	}
	// What others have written must not be synced at this one's cost.
	syscall.Sync()
	limited, cancel := context.WithTimeout(ctx, f.limit)
	defer cancel()
	u, err := f.launch(limited, order{Dir: e.job.dir, Env: environment(e.job), Commands: commands})
	if limited.Err() != nil && ctx.Err() == nil {
		return usage{Wall: f.limit.Seconds(), Failure: fmt.Sprintf("not done after %v", f.limit)}, nil
	}
	return u, err
}

// run is one run that counts.
func (f *field) run(ctx context.Context, e *entrant) (usage, error) {
	f.plain.rtt.Store(int64(f.rtt))
	f.bench.tls.rtt.Store(int64(f.rtt))
	return f.once(ctx, e, f.rtt > 0)
}

// once fills the maildrops if need be, runs a contender and verifies what it
// has delivered.
func (f *field) once(ctx context.Context, e *entrant, over bool, wrapper ...string) (usage, error) {
	var want []sum
	if !f.keep {
		if err := f.refill(); err != nil {
			return usage{}, err
		}
		if err := f.enlist(e, over); err != nil {
			return usage{}, err
		}
		defer os.RemoveAll(e.job.dir)
		want = f.sums()
	}
	u, err := f.start(ctx, e, wrapper...)
	if err != nil {
		return u, err
	}
	if err := verify(e.job.maildir(), want, e.program == drainName); err != nil && u.Failure == "" {
		u.Failure = err.Error()
	}
	return u, nil
}

func (f *field) sums() []sum {
	sums := make([]sum, len(f.pool))
	for i, m := range f.pool {
		sums[i] = m.sum
	}
	return sums
}

// seed lets each contender fetch everything once, over a line without length,
// so that it has seen it all. What it has delivered is then taken away, as a
// reader of mail would.
func (f *field) seed(ctx context.Context) error {
	if err := f.refill(); err != nil {
		return err
	}
	f.plain.rtt.Store(0)
	for _, e := range f.entrants {
		if err := f.enlist(e, true); err != nil {
			return err
		}
		if e.program == drainName {
			continue
		}
		// In memory, to have done sooner.
		maildir := e.job.maildir()
		if f.bench.memory != "" {
			real := filepath.Join(f.bench.memory, "seed")
			if err := makeMaildir(real, f.owner); err != nil {
				return err
			}
			if err := os.RemoveAll(maildir); err != nil {
				return err
			}
			if err := os.Symlink(real, maildir); err != nil {
				return err
			}
		}
		u, err := f.start(ctx, e)
		if err != nil {
			return err
		}
		if err := verify(maildir, f.sums(), false); err != nil && u.Failure == "" {
			u.Failure = err.Error()
		}
		fmt.Fprintf(f.err, "%-8s seed %-26s %8.3f s  %s\n", f.name, e.name, u.Wall, u.Failure)
		if u.Failure != "" {
			e.result.Failure, e.retired = "the first fetch: "+u.Failure, true
		}
		for _, dir := range []string{maildir, filepath.Join(f.bench.memory, "seed")} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
		if err := makeMaildir(maildir, f.owner); err != nil {
			return err
		}
	}
	return nil
}

// count runs a contender once more, to count what cannot be counted without
// slowing it down: over a line, under strace.
func (f *field) count(ctx context.Context, e *entrant) error {
	f.plain.rtt.Store(0)
	f.bench.tls.rtt.Store(0)
	before := f.plain.count().plus(f.bench.tls.count())
	traces := filepath.Join(f.disk, "trace")
	if err := makeDir(traces, f.owner); err != nil {
		return err
	}
	defer os.RemoveAll(traces)
	u, err := f.once(ctx, e, true, strace(traces)...)
	if err != nil {
		return err
	}
	if u.Failure != "" {
		fmt.Fprintf(f.err, "%-8s not counted: %s: %s\n", f.name, e.name, u.Failure)
		return nil
	}
	e.result.Line = f.plain.count().plus(f.bench.tls.count()).minus(before)
	if e.result.Syncs, err = countSyncs(traces); err != nil {
		return err
	}
	return nil
}

// clear removes what the contenders remember.
func (f *field) clear() error {
	for _, e := range f.entrants {
		if err := os.RemoveAll(e.job.dir); err != nil {
			return err
		}
	}
	return nil
}
