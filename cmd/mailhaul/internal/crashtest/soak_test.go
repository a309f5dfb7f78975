//go:build linux && amd64

package crashtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// TestSoak runs a daemon for as long as MAILHAUL_SOAK says, with new mail for many
// accounts, servers that fail, and signals that have it reload its configuration and poll
// at once. In the end every message is there once, and the daemon holds no more file
// descriptors than at first.
func TestSoak(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("MAILHAUL_SOAK"))
	if err != nil {
		t.Skip("MAILHAUL_SOAK is not set: make soak runs this")
	}
	s := newSoak(t)
	began := time.Now()
	for time.Since(began) < long {
		s.step()
	}
	s.configure("")
	s.daemon.Signal(syscall.SIGHUP)
	s.daemon.Signal(syscall.SIGUSR1)
	s.awaitEmptyMaildrops()
	s.terminate()
	s.expectEachOnce()
	s.expectNoLeak()
}

// soak is a daemon with many accounts on several servers.
type soak struct {
	t       *testing.T
	dir     string
	servers []*pop3test.Server
	drops   []*pop3test.Maildrop // one for each account
	config  string
	out     *os.File
	daemon  *os.Process
	sent    int   // messages so far
	open    []int // the number of file descriptors of the daemon after each step
}

// newSoak starts the servers and the daemon.
func newSoak(t *testing.T) *soak {
	t.Helper()
	const servers, accounts = 5, 40
	s := &soak{t: t, dir: t.TempDir()}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range servers {
		server := pop3test.New(pop3test.Options{})
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		s.servers = append(s.servers, server)
	}
	s.config = "state: state\nsinks: { home: { maildir: Maildir } }\ndefaults: { every: 10s, tls: none, password_env: PASSWORD }\naccounts:\n"
	for i := range accounts {
		server := s.servers[i%servers]
		user := fmt.Sprint("user", i)
		s.drops = append(s.drops, server.Account(user, "secret"))
		s.config += fmt.Sprintf("  %s: { server: %q, user: %[1]s }\n", user, server.Addr())
	}
	s.configure("")
	p := program{dir: s.dir, args: []string{"daemon", "--config", "config.yaml"}, env: []string{"PASSWORD=secret"}}
	var err error
	if s.out, err = p.output(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.out.Close() })
	if s.daemon, err = p.start(s.out, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.daemon.Kill() })
	return s
}

// configure replaces the configuration; more is added to its accounts.
func (s *soak) configure(more string) {
	s.t.Helper()
	name := filepath.Join(s.dir, "config.yaml")
	if err := os.WriteFile(name+".new", []byte(s.config+more), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		s.t.Fatal(err)
	}
}

// step sends new mail, at times has something else happen, and waits a moment.
func (s *soak) step() {
	s.t.Helper()
	for range rand.N(5) {
		s.sent++
		s.drops[rand.N(len(s.drops))].Add(fmt.Sprint("uid-", s.sent), fmt.Appendf(nil, "Subject: %d\n\n", s.sent))
	}
	switch rand.N(40) {
	case 0:
		s.daemon.Signal(syscall.SIGHUP)
	case 1:
		s.configure(fmt.Sprintf("  new: { server: %q, user: user0, every: %ds }\n", s.servers[0].Addr(), 10+rand.N(50)))
		s.daemon.Signal(syscall.SIGHUP)
	case 2:
		s.configure("")
		s.daemon.Signal(syscall.SIGHUP)
	case 3:
		s.daemon.Signal(syscall.SIGUSR1)
	case 4:
		s.servers[rand.N(len(s.servers))].Order(pop3test.Ignore("", pop3test.Reset).Times(1))
	}
	time.Sleep(rand.N(200 * time.Millisecond))
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.daemon.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	s.open = append(s.open, len(open))
}

// awaitEmptyMaildrops waits until all mail is fetched.
func (s *soak) awaitEmptyMaildrops() {
	s.t.Helper()
	for _, d := range s.drops {
		for tries := 0; len(d.Messages()) > 0; tries++ {
			if tries > 600 {
				s.t.Fatalf("%d messages stay on a server", len(d.Messages()))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// terminate ends the daemon, which must end well.
func (s *soak) terminate() {
	s.t.Helper()
	s.daemon.Signal(syscall.SIGTERM)
	state, err := s.daemon.Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	if state.ExitCode() != 0 {
		output, _ := os.ReadFile(s.out.Name())
		s.t.Errorf("exit code %d:\n%s", state.ExitCode(), output)
	}
}

// expectEachOnce fails the test unless each message was delivered once.
func (s *soak) expectEachOnce() {
	s.t.Helper()
	mail, err := filepath.Glob(filepath.Join(s.dir, "Maildir", "new", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, name := range mail {
		text, err := os.ReadFile(name)
		if err != nil {
			s.t.Fatal(err)
		}
		_, subject, _ := strings.Cut(string(text), "Subject: ")
		seen[subject]++
	}
	if len(mail) != s.sent || len(seen) != s.sent {
		s.t.Errorf("%d messages were sent; %d arrived, %d of them different", s.sent, len(mail), len(seen))
	}
}

// expectNoLeak fails the test if the daemon held more file descriptors in the end than at
// first.
func (s *soak) expectNoLeak() {
	s.t.Helper()
	// The fewest are held when there is nothing to do. The first ones are left out: the
	// daemon may not have opened all connections to its database by then.
	third := len(s.open) / 3
	first, last := slices.Min(s.open[third/4:third]), slices.Min(s.open[2*third:])
	output, _ := os.ReadFile(s.out.Name())
	s.t.Logf("%d messages; %d file descriptors at first, %d in the end; %d lines of log", s.sent, first, last, strings.Count(string(output), "\n"))
	if last > first+5 {
		s.t.Errorf("%d file descriptors at first, %d in the end", first, last)
	}
}
