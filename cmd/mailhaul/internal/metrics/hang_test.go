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

// A disk that hangs holds up nobody but Write, and costs no memory for each poll;
// once it goes on, every poll counts.
func TestFileHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailhaul.prom")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	f.Observe(poll("ada", 1, fetch.Summary{Fetched: 1}))
	done := make(chan error)
	go func() { done <- f.Write() }()
	hung, err := os.OpenFile(path, os.O_WRONLY, 0) // once Write reads
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

// What a Write could not bring into the file, the next one does, with what came
// since.
func TestFileFailsTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone", "mailhaul.prom")
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	for i := range 3 {
		f.Observe(poll("ada", i, fetch.Summary{Fetched: 1, Listed: i}))
		if f.Write() == nil {
			t.Fatal("written into a folder that is not there")
		}
	}
	f.Observe(poll("ada", 3, fetch.Summary{Fetched: 1, Listed: 3}))
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to add
		text := write(t, f, path)
		for _, line := range []string{`mailhaul_fetched_messages_total{account="ada"} 4`, `mailhaul_server_messages{account="ada"} 3`} {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("the file lacks %s:\n%s", line, text)
			}
		}
	}
}

// The same trouble is told in the same words, by which whoever reports it knows
// that it was told.
func TestFileFailsAlike(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailhaul.prom")
	if err := os.Mkdir(path, 0o700); err != nil { // which no file can take the place of
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
