package metrics_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/fetch"
)

var build = metrics.Build{Version: "v1.2.3", Commit: "abc", Go: "go1"}

// at returns the time that many seconds after a fixed one.
func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }

// poll returns the end of a poll that took two seconds and ended at(end).
func poll(account string, end int, s fetch.Summary) fetch.Event {
	s.Account, s.Started, s.Ended = account, at(end-2), at(end)
	if s.Class > fetch.ClassRefused {
		s.Err = errors.New("no answer")
	}
	return fetch.Finished{Summary: s}
}

// parse reads metrics as Prometheus does.
func parse(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return families
}

// samples returns the lines that are not comments, except those with the value 0.
func samples(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") && !strings.HasSuffix(line, " 0\n") {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	return all
}

// write writes the file, and returns its text.
func write(t *testing.T, f *metrics.File, path string) string {
	t.Helper()
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each process adds to the file: counters grow, gauges of accounts that it did not poll
// stay, and accounts that were removed go.
func TestWriteAddsToFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailhaul.prom")
	accounts := []string{"ada", "grace"}
	f := metrics.NewFile(path, build, accounts, map[string]time.Time{"ada": at(0)})
	f.Observe(poll("ada", 100, fetch.Summary{Listed: 7, Fetched: 5, Dropped: 2, Deleted: 4, Octets: 5000, Refused: 1, TooLarge: 1, Class: fetch.ClassRefused}))
	f.Observe(poll("grace", 100, fetch.Summary{Class: fetch.ClassOperator}))
	write(t, f, path)
	// The same process once more,
	f.Observe(poll("ada", 200, fetch.Summary{Listed: 3, Fetched: 1, Octets: 10}))
	write(t, f, path)
	// and another one, of a newer version, that polls only ada.
	newer := build
	newer.Version = "v1.3.0"
	f = metrics.NewFile(path, newer, append(accounts, "new"), map[string]time.Time{"ada": at(200)})
	f.Observe(fetch.Connected{Account: "ada"})
	f.Observe(fetch.Finished{Summary: fetch.Summary{Account: "new", Err: errors.New("its turn did not come"), Class: fetch.ClassRetry}})
	f.Observe(poll("ada", 300, fetch.Summary{Skipped: true}))
	f.Observe(poll("ada", 310, fetch.Summary{Class: fetch.ClassRetry}))
	text := write(t, f, path)
	want := []string{
		`mailhaul_build_info{commit="abc",goversion="go1",version="v1.3.0"} 1`,
		`mailhaul_deleted_messages_total{account="ada"} 4`,
		`mailhaul_dropped_messages_total{account="ada"} 2`,
		`mailhaul_fetched_bytes_total{account="ada"} 5010`,
		`mailhaul_fetched_messages_total{account="ada"} 6`,
		`mailhaul_last_poll_duration_seconds{account="ada"} 2`,
		`mailhaul_last_poll_duration_seconds{account="grace"} 2`,
		`mailhaul_last_poll_timestamp_seconds{account="ada"} 1.70000031e+09`,
		`mailhaul_last_poll_timestamp_seconds{account="grace"} 1.7000001e+09`,
		`mailhaul_last_success_timestamp_seconds{account="ada"} 1.7000002e+09`,
		`mailhaul_needs_person{account="grace"} 1`,
		`mailhaul_poll_duration_seconds_bucket{le="2.5"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="5"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="10"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="30"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="60"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="300"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="1800"} 4`,
		`mailhaul_poll_duration_seconds_bucket{le="+Inf"} 4`,
		`mailhaul_poll_duration_seconds_sum 8`,
		`mailhaul_poll_duration_seconds_count 4`,
		`mailhaul_polls_total{account="ada",result="fine"} 1`,
		`mailhaul_polls_total{account="ada",result="refused"} 1`,
		`mailhaul_polls_total{account="ada",result="retry"} 1`,
		`mailhaul_polls_total{account="ada",result="skipped"} 1`,
		`mailhaul_polls_total{account="grace",result="person"} 1`,
		`mailhaul_server_messages{account="ada"} 3`,
	}
	if diff := cmp.Diff(want, samples(text)); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		`mailhaul_polls_total{account="new",result="retry"} 0`,       // present before it first counts
		`mailhaul_last_success_timestamp_seconds{account="grace"} 0`, // never
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the file lacks %s", line)
		}
	}

	// The metrics of an account that is removed from the configuration go.
	f = metrics.NewFile(path, build, []string{"grace"}, nil)
	if text := write(t, f, path); strings.Contains(text, `"ada"`) || !strings.Contains(text, `mailhaul_polls_total{account="grace",result="person"} 1`) {
		t.Errorf("without ada:\n%s", text)
	}

	// SetAccounts adds an account at once, whether it ever succeeded or not.
	success := map[string]time.Time{"grace": at(50), "ada": at(400)}
	f.SetAccounts([]string{"grace", "ada", "late"}, success)
	f.SetAccounts([]string{"grace", "ada", "late"}, success)
	f.Observe(poll("late", 500, fetch.Summary{Class: fetch.ClassRetry}))
	text = write(t, f, path)
	for _, line := range []string{
		`mailhaul_last_success_timestamp_seconds{account="ada"} 1.7000004e+09`,
		`mailhaul_last_success_timestamp_seconds{account="grace"} 0`,
		`mailhaul_last_success_timestamp_seconds{account="late"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the file lacks %s:\n%s", line, text)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, error %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, error %v", info.Mode(), err)
	}
}

// Two processes that write at the same time lose no counts.
func TestConcurrentWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailhaul.prom")
	const each = 20
	done := make(chan error)
	for range 2 {
		go func() {
			f := metrics.NewFile(path, build, []string{"ada"}, nil)
			var err error
			for range each {
				f.Observe(poll("ada", 1, fetch.Summary{Fetched: 1}))
				err = errors.Join(err, f.Write())
			}
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, string(text))["mailhaul_fetched_messages_total"].Metric[0].Counter.GetValue(); got != 2*each {
		t.Errorf("%v messages, want %d", got, 2*each)
	}
}

// Write replaces a damaged file. If it fails, no counts are lost.
func TestWriteDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailhaul.prom")
	if err := os.WriteFile(path, []byte("mailhaul_polls_total{acc"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	f.Observe(poll("ada", 1, fetch.Summary{Fetched: 3}))
	parse(t, write(t, f, path))

	gone := filepath.Join(dir, "gone", "mailhaul.prom")
	f = metrics.NewFile(gone, build, []string{"ada"}, nil)
	f.Observe(poll("ada", 1, fetch.Summary{Fetched: 3}))
	if err := f.Write(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "gone") {
		t.Fatalf("Write: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(gone), 0o700); err != nil {
		t.Fatal(err)
	}
	if text := write(t, f, gone); !strings.Contains(text, `mailhaul_fetched_messages_total{account="ada"} 3`) {
		t.Errorf("after the failure:\n%s", text)
	}
}

// The names follow the conventions of Prometheus, and each metric has a help text.
func TestNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailhaul.prom")
	f := metrics.NewFile(path, build, []string{"ada"}, nil)
	f.Observe(poll("ada", 1, fetch.Summary{}))
	families := parse(t, write(t, f, path))
	if len(families) != 14 {
		t.Errorf("%d families", len(families))
	}
	for name, f := range families {
		if !strings.HasPrefix(name, "mailhaul_") || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: %q", name, f.GetHelp())
		}
		if counter := f.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %v", name, f.GetType())
		}
		for unit, word := range map[string]string{"duration": "_seconds", "timestamp": "_seconds", "bytes": "_bytes_total", "Size": "_bytes_total"} {
			if strings.Contains(name+f.GetHelp(), unit) && !strings.HasSuffix(name, word) {
				t.Errorf("%s lacks its unit", name)
			}
		}
	}
}
