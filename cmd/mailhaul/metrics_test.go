package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// If another program has locked the folder of metrics_file, a fetch gives up after a while
// and says so. The next write has the numbers of both.
func TestMetricsFolderLocked(t *testing.T) {
	dir := t.TempDir()
	store, err := state.Open(t.Context(), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	public := filepath.Join(dir, "public")
	if err := os.Mkdir(public, 0o700); err != nil {
		t.Fatal(err)
	}
	locked, err := os.Open(public)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	if err := syscall.Flock(int(locked.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}

	var said bytes.Buffer
	cfg := &config.Config{
		State: filepath.Join(dir, "state"), MetricsFile: filepath.Join(public, "mailhaul.prom"),
		Accounts: []config.Account{{Name: "ada"}},
	}
	metrics, err := openMetricsFile(t.Context(), cfg, store, newJSONReporter(stdio{err: &said}, false), false)
	if err != nil {
		t.Fatal(err)
	}
	poll := fetch.Finished{Summary: fetch.Summary{Account: "ada", Fetched: 3, Started: time.Unix(1, 0), Ended: time.Unix(2, 0)}}
	metrics.observe(poll)
	metrics.save(time.Millisecond)
	if !strings.Contains(said.String(), "metrics_file: not written within 1ms: another program has locked its folder") {
		t.Errorf("it said %q", said.String())
	}

	said.Reset()
	if err := locked.Close(); err != nil {
		t.Fatal(err)
	}
	metrics.observe(poll)
	metrics.save(time.Minute) // it waits for the first write, which is still going on
	text, err := os.ReadFile(cfg.MetricsFile)
	if err != nil || !strings.Contains(string(text), `mailhaul_fetched_messages_total{account="ada"} 6`) || said.Len() > 0 {
		t.Errorf("it said %q, and the file has %s, %v", said.String(), text, err)
	}
}
