package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/mailhaul/mailhaul/fetch"
)

// textReporter writes lines for a person: one for each account and for each
// message that is refused, and with verbose one for each step.
type textReporter struct {
	serial
	out, err io.Writer
	verbose  bool
	clock    string // layout of the time before each line; empty is none
	width    int    // of the longest account name
	targets  map[string]string
	drops    map[string]bool   // accounts whose filter may drop mail
	going    map[string]string // targets of polls under way, also by a configuration before
	paint    func(colour, text string) string
}

// The colours of a terminal (ECMA-48 §8.3.117).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// isTerminal reports whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	f := fileOf(w)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// painter returns what colours text, if anything may (no-color.org).
func painter(terminal bool) func(colour, text string) string {
	if !terminal || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return func(_, text string) string { return text }
	}
	return func(colour, text string) string {
		if colour == "" {
			return text
		}
		return "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
}

func (t *textReporter) observe(e fetch.Event) {
	t.do(func() {
		switch e := e.(type) {
		case fetch.Started:
			t.going[e.Account] = t.targets[e.Account]
		case fetch.Finished:
			t.finished(e.Summary)
			delete(t.going, e.Account)
			return
		}
		_, refused := e.(fetch.Refused)
		_, warned := e.(fetch.Warned)
		if account, text := step(e); text != "" && (t.verbose || refused || warned) {
			t.line(account, text)
		}
	})
}

func (t *textReporter) note(text string) {
	t.do(func() { fmt.Fprintf(t.err, "%smailhaul: %s\n", t.now(), text) })
}

func (t *textReporter) warn(text string) { t.note(text) }

// line writes what is to say of an account. Of what fetch writes, only verbose
// lines need a clock: under cron the mail that they come in has one.
func (t *textReporter) line(account, text string) {
	clock := t.now()
	pad := strings.Repeat(" ", max(0, t.width-len([]rune(account))))
	fmt.Fprintf(t.out, "%s%s: %s%s\n", clock, account, pad, text)
}

// now returns the time as it stands before a line.
func (t *textReporter) now() string {
	if t.clock == "" {
		return ""
	}
	return time.Now().Format(t.clock + " ")
}

// finished writes the one line of an account, and the hint to it.
func (t *textReporter) finished(s fetch.Summary) {
	target, going := t.going[s.Account]
	if !going {
		target = t.targets[s.Account]
	}
	switch {
	case s.Skipped:
		t.line(s.Account, "skipped: "+clean(s.Err.Error()))
		if _, ok := errors.AsType[*fetch.PauseError](s.Err); ok {
			fmt.Fprintf(t.out, "  hint: mailhaul fetch %s does not wait\n", s.Account)
		}
	case s.Err != nil && s.Started.IsZero():
		t.line(s.Account, t.paint(yellow, clean(s.Err.Error())))
	case s.Err != nil:
		verb := "FAILED"
		if done := achieved(s, target); done != "nothing new" && s.Would == nil {
			verb += " after " + done
		}
		t.line(s.Account, t.paint(red, verb)+": "+clean(s.Err.Error()))
	case s.Would != nil:
		t.line(s.Account, intended(*s.Would, target, t.drops[s.Account]))
	default:
		t.line(s.Account, achieved(s, target))
	}
	why := s.Err
	if why == nil {
		why = s.NotDeleted
	}
	if hint := fetch.Hint(why); hint != "" && !s.Skipped {
		fmt.Fprintf(t.out, "  hint: %s\n", hint)
	}
}

// achieved says in a few words what a poll did.
func achieved(s fetch.Summary, target string) string {
	var parts []string
	switch {
	case s.Fetched > 0:
		what := fmt.Sprintf("%s (%s)", count(s.Fetched, "new message"), size(s.Bytes))
		if s.Fetched > s.Quarantined { // else nothing went there
			what += " → " + target
		}
		parts = append(parts, what)
	case s.Dropped > 0:
		parts = append(parts, count(s.Dropped, "new message")+" dropped by the filter")
	case s.Err == nil && s.Unfetched == 0:
		parts = append(parts, "nothing new")
	}
	if s.Quarantined > 0 {
		parts = append(parts, fmt.Sprintf("%d of them in quarantine", s.Quarantined))
	}
	if s.Fetched > 0 && s.Dropped > 0 {
		parts = append(parts, fmt.Sprintf("%d dropped by the filter", s.Dropped))
	}
	if s.Restored > 0 && s.Err == nil {
		parts = append(parts, fmt.Sprintf("%d there again that the server had deleted", s.Restored))
	}
	if s.Deleted > 0 {
		parts = append(parts, fmt.Sprintf("%d deleted", s.Deleted))
	}
	// Of several sessions, only the last one's listing is known.
	if left := s.Listed - s.Deleted - s.Refused - s.TooLarge - s.Waiting - s.Unfetched; s.Fetched+s.Dropped > 0 && s.Sessions == 1 && left >= 0 && s.Err == nil {
		parts = append(parts, fmt.Sprintf("%d kept", left))
	}
	if s.Unfetched > 0 && (s.Err == nil || len(parts) > 0) {
		parts = append(parts, fmt.Sprintf("%d not fetched yet", s.Unfetched))
	}
	if s.Waiting > 0 {
		waiting := fmt.Sprintf("%d to be deleted next time", s.Waiting)
		if s.NotDeleted != nil {
			waiting += fmt.Sprintf(" (%v)", s.NotDeleted)
		}
		parts = append(parts, waiting)
	}
	if s.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused (mailhaul status says why)", s.Refused))
	}
	if s.TooLarge > 0 {
		parts = append(parts, fmt.Sprintf("%d over max_size", s.TooLarge))
	}
	if len(parts) == 0 {
		return "nothing new"
	}
	return sentence(parts)
}

// sentence sets the first part, what is new, off from the rest.
func sentence(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return parts[0] + "; " + strings.Join(parts[1:], ", ")
}

// intended says what a poll would do. Where the filter may drop mail, nobody knows what
// of it comes to the target before it has seen that.
func intended(o fetch.Outlook, target string, drops bool) string {
	done := "delivered"
	if drops {
		target, done = target+" (or dropped by the filter)", "delivered or dropped"
	}
	parts := []string{"would fetch nothing"}
	if o.Fetch > 0 {
		parts[0] = fmt.Sprintf("would fetch %s (%s) → %s", count(o.Fetch, "message"), size(o.FetchOctets), target)
	}
	switch {
	case o.DeleteFetched && o.Fetch == 1:
		parts[0] += " and delete it"
	case o.DeleteFetched:
		parts[0] += " and delete them"
	}
	if o.Delete > 0 {
		parts = append(parts, fmt.Sprintf("would delete %d %s before", o.Delete, done))
	}
	if o.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d refused before", o.Waiting))
	}
	if o.Open > 0 {
		parts = append(parts, fmt.Sprintf("%d in delivery", o.Open))
	}
	if o.TooLarge > 0 {
		parts = append(parts, fmt.Sprintf("%d over max_size", o.TooLarge))
	}
	if o.Unclear > 0 {
		parts = append(parts, fmt.Sprintf("%d without a unique-id left alone", o.Unclear))
	}
	return sentence(append(parts, fmt.Sprintf("%d on the server", o.Listed)))
}

// total sums up several accounts.
func (t *textReporter) total(all []fetch.Summary) {
	if len(all) < 2 {
		return
	}
	n, octets, dry := 0, int64(0), false
	for _, s := range all {
		n += s.Fetched
		octets += s.Bytes
		if w := s.Would; w != nil {
			n += w.Fetch
			octets += w.FetchOctets
			dry = true
		}
	}
	text := fmt.Sprintf("%s, %s", count(len(all), "account"), count(n, "new message"))
	if dry {
		text = fmt.Sprintf("%s, %s to fetch", count(len(all), "account"), count(n, "message"))
	}
	if n > 0 {
		text += " (" + size(octets) + ")"
	}
	bad, unpolled, refused, unfetched := 0, 0, 0, 0
	for _, s := range all {
		refused += s.Refused
		if s.Err == nil {
			unfetched += s.Unfetched
		}
		switch {
		case s.Class <= fetch.ClassRefused:
		case s.Started.IsZero():
			unpolled++ // its turn did not come: nothing is wrong with the account
		default:
			bad++
		}
	}
	if refused > 0 && !dry {
		text += fmt.Sprintf(", %d refused", refused)
	}
	if bad > 0 {
		text += fmt.Sprintf(", %d failed", bad)
	}
	if unpolled > 0 {
		text += fmt.Sprintf(", %d not polled", unpolled)
	}
	if unfetched > 0 {
		text += fmt.Sprintf(", %d not fetched yet", unfetched)
	}
	t.do(func() { fmt.Fprintln(t.out, text) })
}

// step says what an event other than Finished tells, and of which account.
func step(e fetch.Event) (account, text string) {
	switch e := e.(type) {
	case fetch.Connected:
		return e.Account, fmt.Sprintf("connected to %s, %s", e.Addr, secured(e.State))
	case fetch.LoggedIn:
		return e.Account, "logged in by " + e.Mechanism
	case fetch.Planned:
		return e.Account, fmt.Sprintf("%s on the server (%s): fetching %d (%s), deleting %d",
			count(e.Listed, "message"), size(e.Octets), e.Fetch, size(e.FetchOctets), e.Delete)
	case fetch.Landed:
		return e.Account, fmt.Sprintf("%s (%s) → %s", message(e.UID), size(e.Octets), tilde(e.Where))
	case fetch.Refused:
		stays := "stays on the server"
		if e.Quarantine != "" {
			stays = "went to " + e.Quarantine
		}
		text = fmt.Sprintf("%s %s: %s", message(e.UID), stays, clean(e.Reason))
		if !e.NextTry.IsZero() {
			text += ", next try " + e.NextTry.Local().Format(time.DateTime)
		}
		return e.Account, text
	case fetch.Noticed:
		return e.Account, clean(e.Text)
	case fetch.Warned:
		return e.Account, "warning: " + clean(e.Text)
	}
	return "", ""
}

// message calls a message by its unique-id. One without has another name in status,
// or none at all.
func message(uid string) string {
	if uid == "" {
		return "a message without a unique-id"
	}
	return fmt.Sprintf("message %q", uid)
}
