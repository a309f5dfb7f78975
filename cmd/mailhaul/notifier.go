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

// notifier runs the notify command for news, in order, and remembers what was reported.
// In a daemon a reload keeps it as long as there is a command, and news that waits then
// goes to the new command.
type notifier struct {
	watch *notify.Watch
	queue *notify.Queue // nil without a command

	mu      sync.Mutex
	argv    []string
	servers map[string]string // host:port by account
	warn    func(text string)
}

// notifyTimeout is how long a run that has ended waits for the notify command.
const notifyTimeout = time.Minute

// newNotifier makes a notifier for accounts. An empty argv is no command.
func newNotifier(ctx context.Context, watch *notify.Watch, argv []string, accounts []*fetch.Account, warn func(string)) *notifier {
	n := &notifier{watch: watch, servers: map[string]string{}}
	n.reconfigure(argv, accounts, warn)
	if len(argv) > 0 {
		n.queue = notify.NewQueue(ctx, n.runCommand, n.markTold)
	}
	return n
}

// reconfigure replaces the command and the accounts. Accounts that are gone keep their
// servers: news of them may still wait.
func (n *notifier) reconfigure(argv []string, accounts []*fetch.Account, warn func(string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.argv, n.warn = argv, warn
	for _, a := range accounts {
		n.servers[a.Name] = a.Server.Addr()
	}
}

func (n *notifier) runCommand(ctx context.Context, news notify.News) error {
	n.mu.Lock()
	c := notify.Command{Argv: n.argv, Server: n.servers[news.Summary.Account]}
	n.mu.Unlock()
	return c.Run(ctx, news)
}

// close waits for the notify command, for notifyTimeout at most. n may be nil.
func (n *notifier) close(ctx context.Context) {
	if n == nil || n.queue == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	n.queue.Close(ctx)
}

// add queues news for the command; without one it only remembers them. n may be nil.
func (n *notifier) add(news notify.News) {
	switch {
	case n == nil:
	case n.queue != nil:
		n.queue.Add(news)
	default:
		n.markTold(news, nil)
	}
}

// markTold remembers that news was reported, also if the command failed with err:
// to repeat it at each poll would most likely repeat the failure.
func (n *notifier) markTold(news notify.News, err error) {
	n.mu.Lock()
	warn := n.warn
	n.mu.Unlock()
	if err != nil {
		warn(fmt.Sprintf("the notify command could not tell that %s: %v", news, err))
	}
	if err := n.watch.Told(news); err != nil {
		warn(fmt.Sprintf("cannot remember what was told of %s: %v", news.Summary.Account, err))
	}
}

// newsReporter is a reporter that finds out which events are news, and gives these to a
// notifier. A quiet one passes on only urgent news to the reporter behind it. In a
// daemon it survives reloads.
type newsReporter struct {
	quiet bool

	mu       sync.Mutex
	to       reporter
	watch    *notify.Watch // nil if nothing needs to know what is news
	notifier *notifier     // nil also in a dry run

	retired sync.WaitGroup // notifiers that were replaced and are not closed yet
}

// newNewsReporter makes a newsReporter for the accounts of a configuration.
func newNewsReporter(ctx context.Context, to reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account, quiet, dry bool) (*newsReporter, error) {
	r := &newsReporter{quiet: quiet}
	return r, r.reconfigure(ctx, to, store, cfg, accounts, dry)
}

// reconfigure replaces the reporter and the configuration. News that waits is still
// reported. The notify command ends with ctx. After an error nothing has changed.
func (r *newsReporter) reconfigure(ctx context.Context, to reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account, dry bool) (err error) {
	watch := r.watch
	switch {
	case !r.quiet && (cfg.Notify == nil || dry):
		watch = nil
	case watch == nil:
		if watch, err = notify.NewWatch(ctx, store, time.Now); err != nil {
			return err
		}
	}
	old := r.notifier
	var next *notifier
	switch {
	case watch == nil || dry:
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
