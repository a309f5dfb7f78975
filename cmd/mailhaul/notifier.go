package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
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
		n.queue = notify.NewQueue(ctx, n.runCommand, n.remember)
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
		n.remember(news, nil)
	}
}

// remember remembers that news was reported, also if the command failed with err: to
// report it again at each poll would most likely repeat the failure.
func (n *notifier) remember(news notify.News, err error) {
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
