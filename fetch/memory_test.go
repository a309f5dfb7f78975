package fetch_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// pollEnv has the test binary poll the server that it names, in a process that holds
// nothing but the client: its memory can then be measured.
const pollEnv = "MAILHAUL_TEST_POLL"

func TestMain(m *testing.M) {
	if spec := os.Getenv(pollEnv); spec != "" {
		if err := pollAlone(spec); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == tunnelRole {
		os.Exit(playTunnel(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// pollAlone polls the server that spec names, and prints how many messages and octets
// came, the most memory that the process has had, and the error.
func pollAlone(spec string) error {
	addr, mode, _ := strings.Cut(spec, " ")
	dir, err := os.MkdirTemp("", "poll")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := state.Open(context.Background(), filepath.Join(dir, "state"))
	if err != nil {
		return err
	}
	defer store.Close()
	host, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	a := &fetch.Account{
		Name: "work", User: user,
		Server:  fetch.Server{Host: host, Port: number, Security: fetch.PlainText},
		Secret:  func(context.Context) (string, error) { return secret, nil },
		Deliver: []fetch.Target{{Name: "null", Sink: &devNull{}}},
	}
	s := a.Poll(context.Background(), fetch.Options{State: store, DryRun: mode == "dry"})
	if s.Would != nil {
		s.Fetched = s.Would.Fetch
	}
	peak, err := peakMemory()
	fmt.Printf("%d %d %d %v\n", s.Fetched, s.Octets, peak, s.Err)
	return err
}

// peakMemory returns the largest resident set of this process so far, in bytes.
func peakMemory() (int64, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, errors.New("the system does not tell VmHWM")
}

// devNull is a sink that keeps nothing. It is its own batch.
type devNull struct {
	staged []deliver.Promise
}

func (d *devNull) Profile() deliver.Profile                           { return deliver.Profile{Kind: "null"} }
func (d *devNull) Begin(context.Context) (deliver.Batch, error)       { return &devNull{}, nil }
func (d *devNull) Sweep(context.Context, string) error                { return nil }
func (d *devNull) Made(string) bool                                   { return false }
func (d *devNull) Close() error                                       { return nil }
func (d *devNull) Abort() error                                       { return nil }
func (d *devNull) Prepare(context.Context) ([]deliver.Promise, error) { return d.staged, nil }

func (d *devNull) Settle(context.Context, string) (deliver.Verdict, error) {
	return deliver.NotLanded, nil
}

func (d *devNull) Stage(_ context.Context, _ deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	_, err := io.Copy(io.Discard, body)
	t := deliver.Ticket(len(d.staged))
	d.staged = append(d.staged, deliver.Promise{Ticket: t, Token: "null"})
	return t, err
}

func (d *devNull) Commit(_ context.Context, landed func(deliver.Receipt) error) error {
	for _, p := range d.staged {
		if err := landed(deliver.Receipt{Ticket: p.Ticket}); err != nil {
			return err
		}
	}
	return nil
}

// measure polls server in another process. report is all that the process has printed.
func measure(t *testing.T, server *pop3test.Server, mode string) (messages int, octets, peak int64, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), pollEnv+"="+server.Addr()+" "+mode)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := fmt.Sscan(string(out), &messages, &octets, &peak); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("peak %d MiB", peak>>20)
	return messages, octets, peak, string(out)
}

// A message of 256 MB, or 1 GB if asked for, in one header line or in many lines, is never
// held in memory.
func TestMemoryOfLargeMessage(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("MAILHAUL_CRASH") == "full" {
		size = 1 << 30
	} else if testing.Short() || raceEnabled {
		size = 64 << 20
	}
	line := bytes.Repeat([]byte("all work and no play makes jack a dull boy "), 1500)
	for name, end := range map[string]string{"many lines": "\r\n", "one line": " "} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			chunk := append(bytes.Clone(line), end...)
			r.drop.AddFunc("large", size, func() io.Reader {
				return io.MultiReader(strings.NewReader("Subject: large\r\n\r\n"), &repeater{chunk: chunk, left: size})
			})
			n, octets, peak, said := measure(t, r.server, "")
			if n != 1 || octets < size || len(r.left()) != 0 {
				t.Errorf("fetched %d, left %q: %s", n, r.left(), said)
			}
			if !raceEnabled && peak > 64<<20 {
				t.Errorf("%d MiB of memory", peak>>20)
			}
		})
	}
}

// repeater reads chunk over and over, until left bytes were read.
type repeater struct {
	chunk []byte
	at    int
	left  int64
}

func (r *repeater) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.chunk[r.at:])
	r.at = (r.at + n) % len(r.chunk)
	r.left -= int64(n)
	return n, nil
}

// A listing of a million messages fits into 256 MiB.
func TestMemoryOfLargeListing(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 100_000
	}
	r := newRig(t, pop3test.Behaviour{})
	r.drop.AddMany(n, func(i int) string { return fmt.Sprintf("%016x%016x", i, i*7919) }, []byte("Subject: one of many\n\nx\n"))
	got, _, peak, said := measure(t, r.server, "dry")
	if got != n {
		t.Errorf("%d messages to fetch: %s", got, said)
	}
	if !raceEnabled && peak > 256<<20 {
		t.Errorf("%d MiB of memory", peak>>20)
	}
}

// A listing without an end is refused before memory runs out.
func TestMemoryOfEndlessListing(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("five million lines")
	}
	for _, verb := range []string{"LIST", "UIDL"} {
		r := newRig(t, pop3test.Behaviour{})
		r.server.Order(pop3test.EndlessListing(verb))
		_, _, peak, said := measure(t, r.server, "")
		if !strings.Contains(said, verb+": expected at most") {
			t.Errorf("it says %s", said)
		}
		if peak > 1<<30 {
			t.Errorf("%s: %d MiB of memory", verb, peak>>20)
		}
	}
}
