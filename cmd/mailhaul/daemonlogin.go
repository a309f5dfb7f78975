package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// loginCheckInterval is how often a daemon looks whether somebody has logged in by
// OAuth. What was granted is all that tells of it: a login may have been made in
// another container, from which no signal comes.
const loginCheckInterval = 5 * time.Second

// loginTimes returns when somebody last logged in, by the keys of the grants.
func (w *wiring) loginTimes() map[string]time.Time {
	all := map[string]time.Time{}
	for key, s := range w.sources {
		all[key] = s.Granted()
	}
	return all
}

// initialSeenLogins returns which logins need no notice when a configuration is put in
// force: what was noticed under the one before, and of what is new the logins
// that the last polls have made use of. An account may still be waiting from
// before a start.
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

// pollNewLogins has accounts polled that somebody has logged in to since the last
// look, or to a sink of theirs. They may wait for hours since it takes a person.
func (d *daemon) pollNewLogins(ctx context.Context) {
	before := d.seenLogins
	d.seenLogins = d.wiring.loginTimes()
	var names []string
	for _, a := range d.cfg.Accounts {
		if slices.ContainsFunc(grantKeys(d.cfg, a), func(key string) bool {
			at := d.seenLogins[key]
			return !at.IsZero() && !at.Equal(before[key])
		}) {
			names = append(names, a.Name)
		}
	}
	if len(names) > 0 {
		d.out.note(fmt.Sprintf("somebody has logged in: polling %s now", someOf(names)))
		d.sendOrder(ctx, fetch.PollNow{Accounts: names})
	}
}

// grantKeys returns the keys of the grants that the polls of an account use.
func grantKeys(cfg *config.Config, a config.Account) []string {
	all := []grantee{ofAccount(a)}
	for _, name := range append(a.Sinks(), a.Quarantine) {
		if s := cfg.Sink(name); s != nil {
			all = append(all, ofSink(*s))
		}
	}
	var keys []string
	for _, g := range all {
		if g.OAuth != nil {
			keys = append(keys, g.client().Key())
		}
	}
	return keys
}
