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

// newsReporter is a reporter that finds out which events are news, and gives these to a
// notifier. In a daemon it survives reloads. It works once reconfigure has been called.
type newsReporter struct {
	quiet  bool // pass on only urgent news to the next reporter
	dryRun bool // give no news to a notifier

	mu       sync.Mutex
	to       reporter
	watch    *notify.Watch // nil if nothing needs to know what is news
	notifier *notifier     // nil in a dry run, and without watch

	retired sync.WaitGroup // notifiers that were replaced and are not closed yet
}

// reconfigure replaces the reporter and the configuration. News that waits is still
// reported. The notify command ends with ctx. After an error nothing has changed.
func (r *newsReporter) reconfigure(ctx context.Context, to reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account) (err error) {
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
func (r *newsReporter) close(ctx context.Context) {
	r.notifier.close(ctx)
	r.retired.Wait()
}

func (r *newsReporter) observe(e fetch.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.quiet {
		r.to.observe(e)
	}
	if r.watch == nil {
		return
	}
	news := r.watch.See(e)
	if r.quiet {
		r.reportUrgent(e, news)
	}
	for _, n := range news {
		r.notifier.add(n)
	}
}

// reportUrgent reports the refused messages in the news of an event and, if any of the
// news is urgent, that the account works again and the event itself.
func (r *newsReporter) reportUrgent(e fetch.Event, news []notify.News) {
	urgent := false
	for _, n := range news {
		urgent = urgent || n.Urgent()
		for _, refused := range n.Refused {
			r.to.observe(refused)
		}
		if n.Kind == notify.Recovered && n.Urgent() {
			r.to.note(fmt.Sprintf("%s works again; it had failed for %s", n.Summary.Account, span(n.Summary.Ended.Sub(n.Since))))
		}
	}
	if urgent {
		r.to.observe(e)
	}
}

// note reports nothing if quiet: notes are never urgent.
func (r *newsReporter) note(text string) {
	if !r.quiet {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.to.note(text)
	}
}

func (r *newsReporter) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to.warn(text)
}

func (r *newsReporter) total(all []fetch.Summary) {
	if !r.quiet {
		r.to.total(all)
	}
}
