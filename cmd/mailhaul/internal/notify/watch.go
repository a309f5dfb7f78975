// Package notify tells the user when an account begins to fail, still fails after
// a day, needs a person, works again, or has refused messages: once for each
// change, not once for each poll.
//
//   - watch.go: Watch, which turns the events of polls into alerts, and keeps in
//     the state what the user was alerted of
//   - account.go: the rules by which an account gets an alert
//   - alert.go: Alert, its kinds, and its texts for the user
//   - queue.go: Queue, which sends alerts without holding up polls
//   - command.go: Command, which sends an alert by running a program
package notify

import (
	"context"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// State keeps the health of the accounts. It is implemented by *state.Store, which
// documents the methods.
type State interface {
	Health(ctx context.Context) (map[string]state.Health, error)
	HealthOf(ctx context.Context, account string) (state.Health, error)
	SaveTrouble(ctx context.Context, account string, t state.Trouble) error
}

// Watch follows the polls of accounts and decides what to alert the user of. Its
// methods may be called from several goroutines.
type Watch struct {
	store    State
	now      func() time.Time
	mu       sync.Mutex
	accounts map[string]*watchedAccount // by name
}

// NewWatch reads the health of all accounts. now is the clock.
func NewWatch(ctx context.Context, store State, now func() time.Time) (*Watch, error) {
	health, err := store.Health(ctx)
	if err != nil {
		return nil, err
	}
	w := &Watch{store: store, now: now, accounts: map[string]*watchedAccount{}}
	for name, h := range health {
		w.accounts[name] = &watchedAccount{Health: h, readAt: now()}
	}
	return w, nil
}

// Observe takes an event of a poll and returns the alerts that follow from it. Each
// of them is to be passed to MarkSent once it was sent.
func (w *Watch) Observe(e fetch.Event) []Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	alerts := w.handle(e)
	for _, a := range alerts {
		if a.Remember {
			w.account(a.Summary.Account).pending++
		}
	}
	return alerts
}

func (w *Watch) handle(e fetch.Event) []Alert {
	switch e := e.(type) {
	case fetch.Started:
		w.refresh(e.Account)
	case fetch.Refused:
		w.account(e.Account).addRefused(e)
	case fetch.Warned:
		return w.account(e.Account).warn(e, w.now())
	case fetch.Finished:
		return w.account(e.Account).finish(e.Summary, w.now())
	}
	return nil
}

// refreshAfter is how long the health of an account, once it was read, is used
// without looking for alerts that other processes have sent.
const refreshAfter = time.Minute

// refresh reads the health of an account again, as another process may have sent
// alerts. It keeps what it has while alerts of this process are not recorded yet;
// those that the state failed to record are tried again first.
func (w *Watch) refresh(name string) {
	a, now := w.account(name), w.now()
	if a.unsaved != nil && w.store.SaveTrouble(context.Background(), name, *a.unsaved) == nil {
		a.unsaved = nil
	}
	if a.pending > 0 || a.unsaved != nil {
		return
	}
	// A negative age means that the clock was set back.
	if age := now.Sub(a.readAt); 0 <= age && age < refreshAfter {
		return
	}
	if health, err := w.store.HealthOf(context.Background(), name); err == nil {
		a.Health, a.readAt = health, now
	}
}

// MarkSent records that an alert was sent, for later runs and for other processes.
// After an error, the next poll of the account tries to record it again.
func (w *Watch) MarkSent(alert Alert) error {
	if !alert.Remember {
		return nil
	}
	name := alert.Summary.Account
	w.mu.Lock() // held while saving, so that refresh does not save older trouble later
	defer w.mu.Unlock()
	a := w.account(name)
	a.pending--
	a.unsaved = nil
	err := w.store.SaveTrouble(context.Background(), name, alert.Trouble)
	if err != nil {
		a.unsaved = &alert.Trouble
	}
	return err
}

// account returns what is known of an account. One that is new, as after a reload
// of the configuration, is added.
func (w *Watch) account(name string) *watchedAccount {
	if w.accounts[name] == nil {
		w.accounts[name] = new(watchedAccount)
	}
	return w.accounts[name]
}
