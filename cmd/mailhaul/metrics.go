package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// metricsFile is metrics_file during a fetch. Without a metrics_file its methods do
// nothing.
type metricsFile struct {
	file   *metrics.File // nil without one
	marker string        // see reportedToday
	out    reporter
	quiet  bool // warn only once a day
}

func openMetricsFile(ctx context.Context, cfg *config.Config, store *state.Store, out reporter, quiet bool) (*metricsFile, error) {
	if cfg.MetricsFile == "" {
		return &metricsFile{}, nil
	}
	success, err := lastSuccesses(ctx, store)
	if err != nil {
		return nil, err
	}
	return &metricsFile{
		file:   metrics.NewFile(cfg.MetricsFile, buildInfo(), accountNames(cfg), success),
		marker: filepath.Join(cfg.State, "metrics.trouble"),
		out:    out,
		quiet:  quiet,
	}, nil
}

// observe counts an event.
func (m *metricsFile) observe(e fetch.Event) {
	if m.file != nil {
		m.file.Observe(e)
	}
}

// save writes the file, and warns if that fails or takes longer than limit.
func (m *metricsFile) save(limit time.Duration) {
	if m.file == nil {
		return
	}
	err := writeWithin(limit, m.file)
	reported := reportedToday(m.marker, err)
	if err != nil && !(m.quiet && reported) {
		m.out.warn(fmt.Sprintf("metrics_file: %v", err))
	}
}

// writeWithin writes a file of metrics, and returns an error if that takes longer than
// limit: another program may have locked its folder, or its disk may hang.
func writeWithin(limit time.Duration, f *metrics.File) error {
	written := make(chan error, 1)
	go func() { written <- f.Write() }()
	select {
	case err := <-written:
		return err
	case <-time.After(limit):
		return fmt.Errorf("not written within %v: another program has locked its folder, or its disk hangs", limit)
	}
}

// reportedToday reports whether trouble was reported within notify.Patience, by the
// modification time of the file marker. If not, it writes marker anew; without trouble
// it removes it.
func reportedToday(marker string, trouble error) bool {
	if trouble == nil {
		_ = os.Remove(marker) // rarely exists
		return false
	}
	if info, err := os.Stat(marker); err == nil {
		// A time in the future was written by a wrong clock.
		if age := time.Since(info.ModTime()); age >= 0 && age < notify.Patience {
			return true
		}
	}
	_ = os.WriteFile(marker, []byte(trouble.Error()+"\n"), 0o600) // if it fails, the trouble is reported again
	return false
}

// lastSuccesses returns when the last successful poll of each account ended, by name.
// Accounts without one are missing.
func lastSuccesses(ctx context.Context, store *state.Store) (map[string]time.Time, error) {
	health, err := store.Health(ctx)
	if err != nil {
		return nil, err
	}
	times := map[string]time.Time{}
	for name, h := range health {
		if h.LastSuccess > 0 {
			times[name] = time.Unix(h.LastSuccess, 0)
		}
	}
	return times, nil
}

func accountNames(cfg *config.Config) []string {
	names := make([]string, len(cfg.Accounts))
	for i, a := range cfg.Accounts {
		names[i] = a.Name
	}
	return names
}
