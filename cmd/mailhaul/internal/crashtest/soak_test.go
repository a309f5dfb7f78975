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

// TestSoak runs a daemon for as long as MAILHAUL_SOAK says, with new mail for
// many accounts all the while, servers that fail, and signals that have it read
// its configuration and poll at once. In the end every message is there once,
// and it holds no more file descriptors than it did at first.
func TestSoak(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("MAILHAUL_SOAK"))
	if err != nil {
		t.Skip("MAILHAUL_SOAK is not set: make soak runs this")
	}
	const servers, accounts = 5, 40
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var drops []*pop3test.Maildrop
	var farm []*pop3test.Server
	for range servers {
		s := pop3test.New(pop3test.Options{})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		farm = append(farm, s)
	}
	config := "state: state\nsinks: { home: { maildir: Maildir } }\ndefaults: { every: 10s, tls: none, password_env: PASSWORD }\naccounts:\n"
	for i := range accounts {
		s := farm[i%servers]
		user := fmt.Sprint("user", i)
		drops = append(drops, s.Account(user, "secret"))
		config += fmt.Sprintf("  %s: { server: %q, user: %[1]s }\n", user, s.Addr())
	}
	write := func(more string) {
		name := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(name+".new", []byte(config+more), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p := program{dir: dir, args: []string{"daemon", "--config", "config.yaml"}, env: []string{"PASSWORD=secret"}}
	out, err := p.output()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	proc, err := p.start(out, false)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Kill()

	sent := 0
	var held []int // file descriptors
	began := time.Now()
	for time.Since(began) < long {
		for range rand.N(5) {
			sent++
			drops[rand.N(accounts)].Add(fmt.Sprint("uid-", sent), fmt.Appendf(nil, "Subject: %d\n\n", sent))
		}
		switch rand.N(40) {
		case 0:
			proc.Signal(syscall.SIGHUP)
		case 1:
			write(fmt.Sprintf("  new: { server: %q, user: user0, every: %ds }\n", farm[0].Addr(), 10+rand.N(50)))
			proc.Signal(syscall.SIGHUP)
		case 2:
			write("")
			proc.Signal(syscall.SIGHUP)
		case 3:
			proc.Signal(syscall.SIGUSR1)
		case 4:
			farm[rand.N(servers)].Order(pop3test.Ignore("", pop3test.Reset).Times(1))
		}
		time.Sleep(rand.N(200 * time.Millisecond))
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", proc.Pid))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, len(open))
	}
	write("")
	proc.Signal(syscall.SIGHUP)
	proc.Signal(syscall.SIGUSR1)
	for _, d := range drops { // the last mail
		for tries := 0; len(d.Messages()) > 0; tries++ {
			if tries > 600 {
				t.Fatalf("%d messages stay on a server", len(d.Messages()))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	proc.Signal(syscall.SIGTERM)
	state, err := proc.Wait()
	if err != nil {
		t.Fatal(err)
	}
	said, _ := os.ReadFile(out.Name())
	if state.ExitCode() != 0 {
		t.Errorf("exit code %d:\n%s", state.ExitCode(), said)
	}
	mail, err := filepath.Glob(filepath.Join(dir, "Maildir", "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, name := range mail {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, subject, _ := strings.Cut(string(text), "Subject: ")
		seen[subject]++
	}
	if len(mail) != sent || len(seen) != sent {
		t.Errorf("%d messages were sent; %d arrived, %d of them different", sent, len(mail), len(seen))
	}
	// The fewest are those of a daemon with nothing to do. It has started, and
	// has perhaps not opened each of its connections to the database.
	third := len(held) / 3
	first, last := slices.Min(held[third/4:third]), slices.Min(held[2*third:])
	t.Logf("%d messages; %d file descriptors at first, %d in the end; %d lines of log", sent, first, last, strings.Count(string(said), "\n"))
	if last > first+5 {
		t.Errorf("%d file descriptors at first, %d in the end", first, last)
	}
}
