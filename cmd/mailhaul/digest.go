package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mailhaul/mailhaul/fetch"
)

// digest is a reporter for a run whose report is read as a whole, such as mail from cron.
// Of many accounts that fail for the same reason it passes on the first few, and in the
// end it names the others in one line.
type digest struct {
	reporter

	mu     sync.Mutex
	causes []*cause
}

// cause is a failure or a warning that several accounts may share.
type cause struct {
	verb, text string
	first      string   // the first account
	reported   int      // accounts whose event was passed on
	others     []string // the other accounts
}

// observe passes an event on, unless enough accounts were reported for its cause.
func (d *digest) observe(e fetch.Event) {
	const maxReported = 3
	account, verb, text := causeOf(e)
	passOn := true
	d.mu.Lock()
	i := slices.IndexFunc(d.causes, func(c *cause) bool { return c.verb == verb && c.text == text })
	switch {
	case verb == "":
	case i < 0:
		d.causes = append(d.causes, &cause{verb: verb, text: text, first: account, reported: 1})
	case d.causes[i].reported < maxReported:
		d.causes[i].reported++
	default:
		d.causes[i].others = append(d.causes[i].others, account)
		passOn = false
	}
	d.mu.Unlock()
	if passOn {
		d.reporter.observe(e)
	}
}

// reportOthers reports the accounts whose events observe held back.
func (d *digest) reportOthers() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.causes {
		if len(c.others) > 0 {
			d.reporter.note(fmt.Sprintf("%s like %s: %s: %s", c.verb, c.first, count(len(c.others), "other account"), listNames(c.others)))
		}
	}
}

// localEndpoint matches the local end in an error such as "read tcp 10.0.0.1:4711->…":
// its port differs for each account.
var localEndpoint = regexp.MustCompile(`\S+->`)

// causeOf returns the account of a failed poll or a warning, and the cause without what
// differs between accounts: their names, users and ports. For other events verb is "".
func causeOf(e fetch.Event) (account, verb, text string) {
	switch e := e.(type) {
	case fetch.Warned:
		return e.Account, "warned", strings.ReplaceAll(e.Text, e.Account, "")
	case fetch.Finished:
		switch {
		case e.Err == nil && e.NotDeleted == nil:
			return "", "", ""
		case e.Err == nil:
			return e.Account, "not deleted", e.NotDeleted.Error()
		}
		text = localEndpoint.ReplaceAllString(e.Err.Error(), "")
		if login, ok := errors.AsType[*fetch.LoginError](e.Err); ok {
			text = strings.ReplaceAll(text, login.User, "")
		}
		return e.Account, "failed", strings.ReplaceAll(text, e.Account, "")
	}
	return "", "", ""
}
