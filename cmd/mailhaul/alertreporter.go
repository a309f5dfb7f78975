package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// alertReporter is a reporter that turns events into alerts, and gives these to a
// notifier. In a daemon it survives reloads. It works once reconfigure has been called.
type alertReporter struct {
	quiet  bool // pass on only what is urgent to the next reporter
	dryRun bool // give no alerts to a notifier

	mu       sync.Mutex
	to       reporter
	watch    *notify.Watch // nil if nothing needs alerts
	notifier *notifier     // nil in a dry run, and without watch

	retired sync.WaitGroup // notifiers that were replaced and are not closed yet
}

// reconfigure replaces the reporter and the configuration. Alerts that wait are still
// sent. The notify command ends with ctx. After an error nothing has changed.
func (r *alertReporter) reconfigure(ctx context.Context, to reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account) (err error) {
	watch := r.watch
	switch {
	case !r.quiet && (cfg.Notify == nil || r.dryRun):
		watch = nil
	case watch == nil:
		if watch, err = notify.NewWatch(ctx, store, time.Now); err != nil {
			return err
		}
	}
	old := r.notifier
	var next *notifier
	switch {
	case watch == nil || r.dryRun:
	case old != nil && old.queue != nil && len(cfg.Notify) > 0:
		next = old
		next.reconfigure(cfg.Notify, accounts, to.warn)
	default:
		next = newNotifier(ctx, watch, cfg.Notify, accounts, to.warn)
	}
	r.mu.Lock()
	r.to, r.watch, r.notifier = to, watch, next
	r.mu.Unlock()
	if old != nil && old != next {
		r.retired.Go(func() { old.close(ctx) })
	}
	return nil
}

// close waits for the notify command, for notifyTimeout at most.
func (r *alertReporter) close(ctx context.Context) {
	r.notifier.close(ctx)
	r.retired.Wait()
}

func (r *alertReporter) observe(e fetch.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.quiet {
		r.to.observe(e)
	}
	if r.watch == nil {
		return
	}
	alerts := r.watch.Observe(e)
	if r.quiet {
		r.reportUrgent(e, alerts)
	}
	for _, a := range alerts {
		r.notifier.add(a)
	}
}

// reportUrgent reports the refused messages in the alerts of an event and, if any of the
// alerts is urgent, that the account works again and the event itself.
func (r *alertReporter) reportUrgent(e fetch.Event, alerts []notify.Alert) {
	urgent := false
	for _, a := range alerts {
		urgent = urgent || a.Urgent()
		for _, refused := range a.Refused {
			r.to.observe(refused)
		}
		if a.Kind == notify.Recovered && a.Urgent() {
			r.to.note(fmt.Sprintf("%s works again; it had failed for %s", a.Summary.Account, span(a.Summary.Ended.Sub(a.Since))))
		}
	}
	if urgent {
		r.to.observe(e)
	}
}

// note reports nothing if quiet: notes are never urgent.
func (r *alertReporter) note(text string) {
	if !r.quiet {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.to.note(text)
	}
}

func (r *alertReporter) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to.warn(text)
}

func (r *alertReporter) total(all []fetch.Summary) {
	if !r.quiet {
		r.to.total(all)
	}
}
