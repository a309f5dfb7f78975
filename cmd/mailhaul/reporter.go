package main

import (
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// reporter tells a person, or a program that reads logs, how a fetch goes. Reporters
// wrap one another: digest, alertReporter and progress each pass on to another one, in
// the end to a textReporter or a jsonReporter. Methods may be called concurrently.
type reporter interface {
	// observe reports an event of a poll, if this reporter tells of such events.
	observe(fetch.Event)
	// note reports something that concerns no single account.
	note(text string)
	// warn is note for something that a person should look at.
	warn(text string)
	// total ends the report with the totals of a run.
	total([]fetch.Summary)
}

// newReporter makes a textReporter or a jsonReporter, as the options say, which must be
// valid.
func newReporter(std stdio, o fetchOptions, accounts []config.Account, w *wiring) reporter {
	if o.logFormat == "json" {
		return newJSONReporter(std, o.verbose)
	}
	t := &textReporter{
		out:         std.err,
		err:         std.err,
		verbose:     o.verbose,
		targets:     map[string]string{},
		mayDrop:     map[string]bool{},
		pollTargets: map[string]string{},
	}
	if o.dryRun {
		t.out = std.out // a dry run's findings are its output
	}
	if o.verbose {
		t.clock = time.TimeOnly
	}
	t.paint = painter(isTerminal(t.out))
	for _, a := range accounts {
		t.targets[a.Name], t.mayDrop[a.Name] = w.describeSinks(a), mayDrop(a)
		t.width = max(t.width, len([]rune(a.Name)))
	}
	if len(accounts) == 1 {
		t.width = 0
	}
	return t
}

// describeSinks returns where the mail of an account goes: up to three targets, or the
// number of sinks.
func (w *wiring) describeSinks(a config.Account) string {
	const maxTargets = 3
	names := a.Sinks()
	if len(names) > maxTargets {
		return count(len(names), "sink")
	}
	var targets []string
	for _, name := range names {
		targets = append(targets, tilde(w.sinks[name].Profile().Target))
	}
	return strings.Join(targets, ", ")
}

// mayDrop reports whether the filter of an account may drop its mail.
func mayDrop(a config.Account) bool { return a.Filter != nil && a.Filter.AllowDrop }
