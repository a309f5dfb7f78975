package metrics_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/fetch"
)

// While the disk hangs, only Write waits. The polls meanwhile are all counted by the next
// Write.
func TestWriteHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailhaul.prom")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	f.Observe(poll("ada", 1, fetch.Summary{Fetched: 1}))
	done := make(chan error)
	go func() { done <- f.Write() }()
	hung, err := os.OpenFile(path, os.O_WRONLY, 0) // waits until Write reads
	if err != nil {
		t.Fatal(err)
	}
	const polls = 1000
	for i := range polls {
		f.Observe(poll("ada", 2+i, fetch.Summary{Fetched: 1, Listed: i}))
	}
	f.SetAccounts([]string{"ada", "grace"}, nil)
	f.Observe(poll("grace", 1, fetch.Summary{Fetched: 7}))
	hung.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	text := write(t, f, path)
	for _, line := range []string{
		`mailhaul_fetched_messages_total{account="ada"} 1001`,
		`mailhaul_polls_total{account="ada",result="fine"} 1001`,
		`mailhaul_server_messages{account="ada"} 999`,
		`mailhaul_fetched_messages_total{account="grace"} 7`,
		`mailhaul_poll_duration_seconds_count 1002`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the file lacks %s:\n%s", line, text)
		}
	}
}

// After a failed Write, the next one adds the same counts, and those that came since.
func TestWriteAfterFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone", "mailhaul.prom")
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	for i := range 3 {
		f.Observe(poll("ada", i, fetch.Summary{Fetched: 1, Listed: i}))
		if f.Write() == nil {
			t.Fatal("Write succeeded in a folder that does not exist")
		}
	}
	f.Observe(poll("ada", 3, fetch.Summary{Fetched: 1, Listed: 3}))
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one has nothing to add
		text := write(t, f, path)
		for _, line := range []string{`mailhaul_fetched_messages_total{account="ada"} 4`, `mailhaul_server_messages{account="ada"} 3`} {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("the file lacks %s:\n%s", line, text)
			}
		}
	}
}

// The same failure has the same text each time, so that a caller can recognise it.
func TestWriteErrorIsStable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailhaul.prom")
	if err := os.Mkdir(path, 0o700); err != nil { // a file cannot replace it
		t.Fatal(err)
	}
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	first, second := f.Write(), f.Write()
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("first %v, then %v", first, second)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("the folder holds %v, %v", all, err)
	}
}
