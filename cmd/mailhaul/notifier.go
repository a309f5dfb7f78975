package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
)

// notifier runs the notify command for alerts, in order, and records which were sent.
// In a daemon a reload keeps it as long as there is a command, and alerts that wait then
// go to the new command.
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
		n.queue = notify.NewQueue(ctx, n.runCommand, n.markSent)
	}
	return n
}

// reconfigure replaces the command and the accounts. Accounts that are gone keep their
// servers: alerts about them may still wait.
func (n *notifier) reconfigure(argv []string, accounts []*fetch.Account, warn func(string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.argv, n.warn = argv, warn
	for _, a := range accounts {
		n.servers[a.Name] = a.Server.Addr()
	}
}

func (n *notifier) runCommand(ctx context.Context, alert notify.Alert) error {
	n.mu.Lock()
	c := notify.Command{Argv: n.argv, Server: n.servers[alert.Summary.Account]}
	n.mu.Unlock()
	return c.Run(ctx, alert)
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

// add queues an alert for the command; without one it only records it. n may be nil.
func (n *notifier) add(alert notify.Alert) {
	switch {
	case n == nil:
	case n.queue != nil:
		n.queue.Add(alert)
	default:
		n.markSent(alert, nil)
	}
}

// markSent records that an alert was sent, also if the command failed with err:
// to repeat it at each poll would most likely repeat the failure.
func (n *notifier) markSent(alert notify.Alert, err error) {
	n.mu.Lock()
	warn := n.warn
	n.mu.Unlock()
	if err != nil {
		warn(fmt.Sprintf("the notify command could not tell that %s: %v", alert, err))
	}
	if err := n.watch.MarkSent(alert); err != nil {
		warn(fmt.Sprintf("cannot remember what was told of %s: %v", alert.Summary.Account, err))
	}
}
