package main

import (
	"strings"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// reporter tells a person, or a program that reads logs, how a fetch goes.
// Its methods may be called from several goroutines at once.
type reporter interface {
	observe(fetch.Event)
	// note says something that concerns no single account, and warn something
	// that somebody should look at.
	note(text string)
	warn(text string)
	// total ends the report.
	total([]fetch.Summary)
}

// newReporter makes one for the accounts of a configuration, by options that were
// checked.
func newReporter(std stdio, o fetchOptions, accounts []config.Account, w *wiring) reporter {
	if o.logFormat == "json" {
		return newJSONReporter(std, o.verbose)
	}
	t := &textReporter{out: std.err, err: std.err, verbose: o.verbose, targets: map[string]string{}, drops: map[string]bool{}, going: map[string]string{}}
	if o.dryRun {
		t.out = std.out // what a dry run finds is its result
	}
	if o.verbose {
		t.clock = time.TimeOnly
	}
	t.paint = painter(isTerminal(t.out))
	for _, a := range accounts {
		t.targets[a.Name], t.drops[a.Name] = w.places(a), mayDrop(a)
		t.width = max(t.width, len([]rune(a.Name)))
	}
	if len(accounts) == 1 {
		t.width = 0
	}
	return t
}

// places says in a few words where the mail of an account goes.
func (w *wiring) places(a config.Account) string {
	const most = 3
	names := a.Sinks()
	if len(names) > most {
		return count(len(names), "sink")
	}
	var all []string
	for _, name := range names {
		all = append(all, tilde(w.sinks[name].Profile().Target))
	}
	return strings.Join(all, ", ")
}

// mayDrop reports whether the filter of an account may drop its mail.
func mayDrop(a config.Account) bool { return a.Filter != nil && a.Filter.AllowDrop }

// serial lets one goroutine at a time speak.
type serial struct{ mu sync.Mutex }

func (s *serial) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}
