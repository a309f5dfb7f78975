package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
)

// textReporter writes lines for a person: one for each poll, for each refused message
// and for each warning; with verbose, one for each step of a poll.
type textReporter struct {
	out, err io.Writer
	verbose  bool
	clock    string            // layout of the time before each line; empty is none
	width    int               // of the longest account name
	targets  map[string]string // where an account's mail goes
	mayDrop  map[string]bool   // accounts whose filter may drop mail
	paint    paintFunc

	mu sync.Mutex
	// pollTargets are the targets as each poll under way began: a daemon may have
	// reloaded its configuration since.
	pollTargets map[string]string
}

func (t *textReporter) observe(e fetch.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := t.verbose
	switch e := e.(type) {
	case fetch.Started:
		t.pollTargets[e.Account] = t.targets[e.Account]
	case fetch.Finished:
		t.writeFinished(e.Summary)
		delete(t.pollTargets, e.Account)
		return
	case fetch.Refused, fetch.Warned:
		shown = true
	}
	if account, text := describeEvent(e); text != "" && shown {
		t.writeLine(account, text)
	}
}

func (t *textReporter) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.err, "%smailhaul: %s\n", t.timestamp(), text)
}

func (t *textReporter) warn(text string) { t.note(text) }

// writeLine writes a line about an account, with the texts of all accounts aligned.
func (t *textReporter) writeLine(account, text string) {
	pad := strings.Repeat(" ", max(0, t.width-len([]rune(account))))
	fmt.Fprintf(t.out, "%s%s: %s%s\n", t.timestamp(), account, pad, text)
}

// timestamp returns the time to write before a line, with a blank behind it, or "".
func (t *textReporter) timestamp() string {
	if t.clock == "" {
		return ""
	}
	return time.Now().Format(t.clock + " ")
}

// writeFinished writes the line of a poll that has ended, and the hint for it.
func (t *textReporter) writeFinished(s fetch.Summary) {
	target, started := t.pollTargets[s.Account]
	if !started {
		target = t.targets[s.Account]
	}
	switch {
	case s.Skipped:
		t.writeLine(s.Account, "skipped: "+clean(s.Err.Error()))
		if _, ok := errors.AsType[*fetch.PauseError](s.Err); ok {
			fmt.Fprintf(t.out, "  hint: mailhaul fetch %s does not wait\n", s.Account)
		}
	case s.Err != nil && s.Started.IsZero():
		t.writeLine(s.Account, t.paint(yellow, clean(s.Err.Error())))
	case s.Err != nil:
		verb := "FAILED"
		if done := describeSummary(s, target); done != nothingNew && s.Would == nil {
			verb += " after " + done
		}
		t.writeLine(s.Account, t.paint(red, verb)+": "+clean(s.Err.Error()))
	case s.Would != nil:
		t.writeLine(s.Account, describeOutlook(*s.Would, target, t.mayDrop[s.Account]))
	default:
		t.writeLine(s.Account, describeSummary(s, target))
	}
	err := s.Err
	if err == nil {
		err = s.NotDeleted
	}
	if hint := fetch.Hint(err); hint != "" && !s.Skipped {
		fmt.Fprintf(t.out, "  hint: %s\n", hint)
	}
}

const nothingNew = "nothing new"

// describeSummary says in a few words what a poll did.
func describeSummary(s fetch.Summary, target string) string {
	var parts []string
	switch {
	case s.Fetched > 0:
		what := fmt.Sprintf("%s (%s)", count(s.Fetched, "new message"), size(s.Octets))
		if s.Fetched > s.Quarantined { // else nothing went to the target
			what += " → " + target
		}
		parts = append(parts, what)
	case s.Dropped > 0:
		parts = append(parts, count(s.Dropped, "new message")+" dropped by the filter")
	case s.Err == nil && s.Unfetched == 0:
		parts = append(parts, nothingNew)
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
	if kept, known := keptMessages(s); known && s.Fetched+s.Dropped > 0 {
		parts = append(parts, fmt.Sprintf("%d kept", kept))
	}
	if s.Unfetched > 0 && (s.Err == nil || len(parts) > 0) {
		parts = append(parts, fmt.Sprintf("%d not fetched yet", s.Unfetched))
	}
	if s.ToDelete > 0 {
		waiting := fmt.Sprintf("%d to be deleted next time", s.ToDelete)
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
		return nothingNew
	}
	return joinParts(parts)
}

// keptMessages returns how many messages a poll has left on the server as keep says. It
// is not known after an error, and after several sessions: Listed is that of the last.
func keptMessages(s fetch.Summary) (kept int, known bool) {
	kept = s.Listed - s.Deleted - s.Refused - s.TooLarge - s.ToDelete - s.Unfetched
	return kept, kept >= 0 && s.Sessions == 1 && s.Err == nil
}

// joinParts joins parts with commas, the first of them with a semicolon.
func joinParts(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return parts[0] + "; " + strings.Join(parts[1:], ", ")
}

// describeOutlook says what a poll would do. With filterDrops it says of each message that
// the filter may drop it instead of delivering it.
func describeOutlook(o fetch.Outlook, target string, filterDrops bool) string {
	done := "delivered"
	if filterDrops {
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
	for _, part := range []struct {
		n      int
		format string
	}{
		{o.Delete, "would delete %d " + done + " before"},
		{o.Waiting, "%d refused before"},
		{o.Open, "%d in delivery"},
		{o.TooLarge, "%d over max_size"},
		{o.Unclear, "%d without a unique-id left alone"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf(part.format, part.n))
		}
	}
	return joinParts(append(parts, fmt.Sprintf("%d on the server", o.Listed)))
}

// total writes a line about all accounts, if there are several.
func (t *textReporter) total(all []fetch.Summary) {
	if len(all) < 2 {
		return
	}
	var messages, refused, failed, unpolled, unfetched int
	var octets int64
	dry := false
	for _, s := range all {
		messages += s.Fetched
		octets += s.Octets
		if w := s.Would; w != nil {
			messages += w.Fetch
			octets += w.FetchOctets
			dry = true
		}
		refused += s.Refused
		if s.Err == nil {
			unfetched += s.Unfetched
		}
		switch {
		case s.Class <= fetch.ClassRefused:
		case s.Started.IsZero():
			unpolled++ // the run ended before its turn
		default:
			failed++
		}
	}
	text := fmt.Sprintf("%s, %s", count(len(all), "account"), count(messages, "new message"))
	if dry {
		refused = 0
		text = fmt.Sprintf("%s, %s to fetch", count(len(all), "account"), count(messages, "message"))
	}
	if messages > 0 {
		text += " (" + size(octets) + ")"
	}
	for _, more := range []struct {
		n    int
		what string
	}{{refused, "refused"}, {failed, "failed"}, {unpolled, "not polled"}, {unfetched, "not fetched yet"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.out, text)
}

// describeEvent returns what an event tells, and the account; "" for Started and
// Finished.
func describeEvent(e fetch.Event) (account, text string) {
	switch e := e.(type) {
	case fetch.Connected:
		return e.Account, fmt.Sprintf("connected to %s, %s", e.Addr, describeTLS(e.State))
	case fetch.LoggedIn:
		return e.Account, "logged in by " + e.Mechanism
	case fetch.Planned:
		return e.Account, fmt.Sprintf("%s on the server (%s): fetching %d (%s), deleting %d",
			count(e.Listed, "message"), size(e.Octets), e.Fetch, size(e.FetchOctets), e.Delete)
	case fetch.Landed:
		return e.Account, fmt.Sprintf("%s (%s) → %s", fetch.MessageName(e.UID), size(e.Octets), tilde(e.Where))
	case fetch.Refused:
		stays := "stays on the server"
		if e.Quarantine != "" {
			stays = "went to " + e.Quarantine
		}
		text = fmt.Sprintf("%s %s: %s", fetch.MessageName(e.UID), stays, clean(e.Reason))
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
