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

// openMetricsFile has what is observed counted in metrics_file, which write brings
// up to date, if that takes no longer than its limit. If quiet, trouble with the file
// is told once a day.
func openMetricsFile(ctx context.Context, cfg *config.Config, store *state.Store, out reporter, quiet bool) (observe fetch.Observer, write func(limit time.Duration), err error) {
	if cfg.MetricsFile == "" {
		return func(fetch.Event) {}, func(time.Duration) {}, nil
	}
	success, err := lastSuccesses(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	f := metrics.NewFile(cfg.MetricsFile, buildInfo(), accountNames(cfg), success)
	return f.Observe, func(limit time.Duration) {
		err := writeWithin(limit, f)
		told := reportedToday(filepath.Join(cfg.State, "metrics.trouble"), err)
		if err != nil && !(quiet && told) {
			out.warn(fmt.Sprintf("metrics_file: %v", err))
		}
	}, nil
}

// writeWithin writes a file of metrics, and leaves it at an error if that takes longer
// than a limit: its folder, in which others may be at home, can be locked, and its
// disk can hang.
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

// reportedToday notes in a file when trouble was told of, and reports whether that
// was done within a day before. Without trouble, the file goes.
func reportedToday(marker string, trouble error) bool {
	if trouble == nil {
		_ = os.Remove(marker) // seldom there
		return false
	}
	if info, err := os.Stat(marker); err == nil {
		// One that lies ahead was noted by a clock that was.
		if ago := time.Since(info.ModTime()); ago >= 0 && ago < notify.Patience {
			return true
		}
	}
	_ = os.WriteFile(marker, []byte(trouble.Error()+"\n"), 0o600) // else it is told again
	return false
}

// lastSuccesses returns when each account last did well.
func lastSuccesses(ctx context.Context, store *state.Store) (map[string]time.Time, error) {
	health, err := store.Health(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]time.Time{}
	for name, h := range health {
		if h.LastSuccess > 0 {
			all[name] = time.Unix(h.LastSuccess, 0)
		}
	}
	return all, nil
}

func accountNames(cfg *config.Config) []string {
	names := make([]string, len(cfg.Accounts))
	for i, a := range cfg.Accounts {
		names[i] = a.Name
	}
	return names
}

// joinObservers returns one Observer for many.
func joinObservers(all ...fetch.Observer) fetch.Observer {
	return func(e fetch.Event) {
		for _, observe := range all {
			observe(e)
		}
	}
}
