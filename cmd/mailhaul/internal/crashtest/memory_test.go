//go:build linux && amd64

package crashtest

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// A message of any size takes little memory, since it is never held there as a whole.
func TestMemoryOfLargeMessage(t *testing.T) {
	size := int64(200e6)
	if full {
		size = 1e9
	}
	const most = 64 << 20
	for _, sink := range sinks {
		if sink == "mbox" && !full {
			continue
		}
		t.Run(sink, func(t *testing.T) {
			w := emptyWorld(t, sink)
			w.drop.AddFunc("uid-large", size, func() io.Reader { return strings.NewReader("") })
			// The server would take longer to prepare such a message than it takes to fetch it.
			w.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
				x.Act()
				x.Reply = io.MultiReader(strings.NewReader("+OK\r\n"), largeMessage(size, "\r\n"), strings.NewReader(".\r\n"))
			}))
			w.fetchWithin(t, most)
			name := w.path("mbox/inbox")
			if sink == "maildir" {
				names, err := filepath.Glob(w.path("Maildir/new/*"))
				if len(names) != 1 || err != nil {
					t.Fatalf("%q (%v)", names, err)
				}
				name = names[0]
			}
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			there, want := bufio.NewReader(f), largeMessage(size, "\n")
			if sink == "mbox" {
				there.ReadString('\n') // the From_ line
				want = io.MultiReader(want, strings.NewReader("\n"))
			}
			if sum(t, there) != sum(t, want) {
				t.Error("it is not what the server sent")
			}
		})
	}
}

// largeMessage returns a message of about so many bytes.
func largeMessage(size int64, lineEnd string) io.Reader {
	line := "0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ" + lineEnd
	block := strings.Repeat(line, 1000)
	readers := []io.Reader{strings.NewReader("Subject: large" + lineEnd + lineEnd)}
	for range size / 65e3 {
		readers = append(readers, strings.NewReader(block))
	}
	return io.MultiReader(readers...)
}

// sum returns the SHA-256 of all that r has.
func sum(t *testing.T, r io.Reader) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// A listing of a million messages takes some memory for each message, but not much.
func TestMemoryOfLargeListing(t *testing.T) {
	const most = 256 << 20
	w := emptyWorld(t, "maildir")
	w.drop.AddMany(1_000_000, func(i int) string { return fmt.Sprintf("unique-id-%020d", i) }, []byte("Subject: hello\n\n"))
	t.Run("dry run", func(t *testing.T) { w.fetchWithin(t, most, "--dry-run") })
}

// fetchWithin runs the program, and fails the test if it needs more memory than most.
func (w *world) fetchWithin(t *testing.T, most int64, args ...string) {
	t.Helper()
	p := w.fetch()
	p.args = append(p.args, args...)
	run, err := runTraced(p, unwatched)
	if err != nil || run.code != 0 {
		t.Fatalf("exit code %d (%v):\n%s", run.code, err, run.output)
	}
	t.Logf("at most %d MiB of memory", run.peak>>20)
	if run.peak == 0 || run.peak > most {
		t.Errorf("it took %d MiB of memory, more than %d MiB", run.peak>>20, most>>20)
	}
}

// emptyWorld returns a world without mail, in memory if the system has such a folder.
func emptyWorld(t *testing.T, sink string) *world {
	t.Helper()
	w, err := newWorld(memory(), workload{sink: sink, perSession: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}
