package main

import (
	"fmt"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
)

// calmReporter passes on what is news of a daemon: mail, trouble that is new or
// that a person is reminded of once a day, and its end. It outlives reloads.
type calmReporter struct {
	serial
	to      reporter
	verbose bool // pass on all
	last    map[string]outlook
}

// outlook is how an account fared when it was last polled.
type outlook struct {
	class   fetch.Class
	refused int
	// Of trouble: since when, in how many polls, and when it was told.
	since, told time.Time
	polls       int
}

// use has a reporter for the accounts of a configuration take another's place:
// text with the time for a person at a terminal, else JSON.
func (c *calmReporter) use(std stdio, o fetchOptions, accounts []config.Account, w *wiring) error {
	if o.logFormat == "auto" && !isTerminal(std.err) {
		o.logFormat = "json"
	}
	to, err := newReporter(std, o, accounts, w)
	if err != nil {
		return err
	}
	if text, ok := to.(*textReporter); ok {
		text.clock = time.DateTime
	}
	c.do(func() { c.to = to })
	return nil
}

func (c *calmReporter) note(text string)      { c.do(func() { c.to.note(text) }) }
func (c *calmReporter) total([]fetch.Summary) {}

func (c *calmReporter) observe(e fetch.Event) {
	c.do(func() {
		if f, ok := e.(fetch.Finished); !ok || c.news(f.Summary) || c.verbose {
			c.to.observe(e)
		}
	})
}

// news reports whether the outcome of a poll is to be told.
func (c *calmReporter) news(s fetch.Summary) bool {
	if s.Skipped {
		return false
	}
	was, is := c.last[s.Account], outlook{class: s.Class, refused: s.Refused}
	defer func() { c.last[s.Account] = is }()
	if s.Class < fetch.ClassRetry {
		if was.class >= fetch.ClassRetry {
			c.to.note(fmt.Sprintf("%s works again, after %s since %s", s.Account,
				count(was.polls, "failed poll"), was.since.Local().Format(time.DateTime)))
		}
		return s.Fetched > 0 || s.Deleted > 0 || s.Refused > was.refused
	}
	is.refused, is.polls, is.since, is.told = was.refused, was.polls+1, was.since, was.told
	if was.class < fetch.ClassRetry {
		is.since = s.Started
	}
	if was.class == s.Class && s.Fetched == 0 && s.Ended.Sub(was.told) < notify.Patience {
		return false
	}
	is.told = s.Ended
	return true
}
