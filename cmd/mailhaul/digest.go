package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mailhaul/mailhaul/fetch"
)

// digest is a reporter of a run that somebody reads as a whole, as mail from cron: of
// many accounts that fail for the same reason it tells the first few, and names the
// others in the end.
type digest struct {
	reporter
	serial
	causes []*cause
}

// cause is why accounts failed, or what was warned of.
type cause struct {
	verb, text string
	first      string // of the accounts that were told
	reported   int
	others     []string
}

// observe passes on what is not the same as was told before.
func (d *digest) observe(e fetch.Event) {
	const few = 3
	account, verb, text := causeOf(e)
	var same *cause
	d.do(func() {
		for _, c := range d.causes {
			if c.verb == verb && c.text == text {
				same = c
			}
		}
		switch {
		case verb == "":
		case same == nil:
			d.causes = append(d.causes, &cause{verb: verb, text: text, first: account, reported: 1})
		case same.reported < few:
			same.reported++
			same = nil
		default:
			same.others = append(same.others, account)
		}
	})
	if same == nil {
		d.reporter.observe(e)
	}
}

// reportOthers names the others.
func (d *digest) reportOthers() {
	d.do(func() {
		for _, c := range d.causes {
			if len(c.others) > 0 {
				d.reporter.note(fmt.Sprintf("%s like %s: %s: %s", c.verb, c.first, count(len(c.others), "other account"), someOf(c.others)))
			}
		}
	})
}

// localEndpoint finds our end of a connection.
var localEndpoint = regexp.MustCompile(`\S+->`)

// causeOf returns why a poll failed, or what was warned of, alike for all accounts of
// which it is the same. verb is "" if it is neither.
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
