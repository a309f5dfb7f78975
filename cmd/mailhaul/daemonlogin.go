package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// loginCheckInterval is how often a daemon checks the stored grants for new OAuth logins.
// mailhaul login cannot signal the daemon, which may run in another container.
const loginCheckInterval = 5 * time.Second

// loginTimes returns the times of the last logins, by the keys of the grants.
func (w *wiring) loginTimes() map[string]time.Time {
	times := map[string]time.Time{}
	for key, s := range w.tokenSources {
		times[key] = s.Granted()
	}
	return times
}

// initialSeenLogins returns seenLogins for a new configuration. A grant that the old
// configuration has keeps its time. A login by any other grant counts as seen, unless
// the account's last poll had ended by then: that account may be waiting for the login.
func (d *daemon) initialSeenLogins(cfg *config.Config, w *wiring) (map[string]time.Time, error) {
	logins := w.loginTimes()
	for _, a := range cfg.Accounts {
		for _, key := range grantKeys(cfg, a) {
			if at, ok := d.seenLogins[key]; ok {
				logins[key] = at
				continue
			}
			last, err := d.store.Polls(context.Background(), a.Name, 1)
			if err != nil {
				return nil, err
			}
			if len(last) > 0 && logins[key].Unix() >= last[0].Ended {
				logins[key] = time.Time{}
			}
		}
	}
	return logins, nil
}

// pollNewLogins polls the accounts whose grant, or the grant of one of whose sinks, has
// a new login. An account that needs a person waits for hours otherwise.
func (d *daemon) pollNewLogins(ctx context.Context) {
	old := d.seenLogins
	d.seenLogins = d.wiring.loginTimes()
	isNew := func(key string) bool {
		login := d.seenLogins[key]
		return !login.IsZero() && !login.Equal(old[key])
	}
	var names []string
	for _, a := range d.cfg.Accounts {
		if slices.ContainsFunc(grantKeys(d.cfg, a), isNew) {
			names = append(names, a.Name)
		}
	}
	if len(names) > 0 {
		d.out.note(fmt.Sprintf("somebody has logged in: polling %s now", listNames(names)))
		d.sendOrder(ctx, fetch.PollNow{Accounts: names})
	}
}

// grantKeys returns the keys of the grants that the polls of an account use.
func grantKeys(cfg *config.Config, a config.Account) []string {
	logins := []serverLogin{accountLogin(a)}
	for _, name := range append(a.Sinks(), a.Quarantine) {
		if s := cfg.Sink(name); s != nil {
			logins = append(logins, sinkLogin(*s))
		}
	}
	var keys []string
	for _, l := range logins {
		if l.OAuth != nil {
			keys = append(keys, l.oauthClient().Key())
		}
	}
	return keys
}
