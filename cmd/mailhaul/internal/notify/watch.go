// Package notify tells a person when an account begins to fail, goes on
// failing, takes somebody's hand, or works again: once for each change,
// not once for each poll.
package notify

import (
	"context"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// State is what is remembered of how accounts do. *state.Store is one, and says what
// each method does.
type State interface {
	Health(ctx context.Context) (map[string]state.Health, error)
	HealthOf(ctx context.Context, account string) (state.Health, error)
	SaveTrouble(ctx context.Context, account string, t state.Trouble) error
}

// Watch follows the polls of accounts and knows what is news. Its methods may
// be called from several goroutines.
type Watch struct {
	store    State
	now      func() time.Time
	mu       sync.Mutex
	accounts map[string]*watchedAccount
}

// NewWatch looks up what a person knows of all accounts. now is the clock.
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

// See takes an event of a poll and returns what is news about it.
func (w *Watch) See(e fetch.Event) []News {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.handle(e)
	for _, n := range all {
		if n.Remember {
			w.account(n.Summary.Account).pending++
		}
	}
	return all
}

func (w *Watch) handle(e fetch.Event) []News {
	switch e := e.(type) {
	case fetch.Started:
		w.refresh(e.Account)
	case fetch.Refused:
		a := w.account(e.Account)
		if e.Again || e.UID == "" && a.refusedWithoutUID {
			break
		}
		a.newlyRefused = append(a.newlyRefused, e)
		a.refusedWithoutUID = a.refusedWithoutUID || e.UID == ""
	case fetch.Warned:
		return w.account(e.Account).warn(e, w.now())
	case fetch.Finished:
		return w.account(e.Account).finished(e.Summary, w.now())
	}
	return nil
}

// refreshAfter is for how long it is believed that no other process has told anything:
// whoever has just begun knows all.
const refreshAfter = time.Minute

// refresh finds out what another process may have told of an account. As long as
// not all is remembered that we told, or are about to, we know better; what a disk
// did not take then is tried again.
func (w *Watch) refresh(account string) {
	a, now := w.account(account), w.now()
	if a.unsaved != nil && w.store.SaveTrouble(context.Background(), account, *a.unsaved) == nil {
		a.unsaved = nil
	}
	if age := now.Sub(a.readAt); a.pending > 0 || a.unsaved != nil || 0 <= age && age < refreshAfter {
		return
	}
	if health, err := w.store.HealthOf(context.Background(), account); err == nil {
		a.Health, a.readAt = health, now
	}
}

// Told remembers that a piece of news was told, for other processes and later
// ones. After an error the next poll of the account tries again.
func (w *Watch) Told(n News) error {
	if !n.Remember {
		return nil
	}
	account := n.Summary.Account
	w.mu.Lock() // or look might write what is older over it
	defer w.mu.Unlock()
	err := w.store.SaveTrouble(context.Background(), account, n.Trouble)
	a := w.account(account)
	a.pending--
	if a.unsaved = nil; err != nil {
		a.unsaved = &n.Trouble
	}
	return err
}

// account returns what is known of an account; one that a reload of the
// configuration brought is new.
func (w *Watch) account(name string) *watchedAccount {
	if w.accounts[name] == nil {
		w.accounts[name] = new(watchedAccount)
	}
	return w.accounts[name]
}
