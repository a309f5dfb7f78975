package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// Patience is how long trouble stays at LevelPassing, and the pause between two
// alerts for the same trouble.
const Patience = 24 * time.Hour

// The values of state.Trouble.Level; 0 is no trouble.
const (
	// LevelPassing is trouble that may go away by itself.
	LevelPassing = 1 + iota
	// LevelLasting is trouble that may go away by itself, but the last success
	// is longer ago than Patience, or there was none.
	LevelLasting
	// LevelPerson is trouble that a person has to see to.
	LevelPerson
)

// Kind says what has happened. It is the value of MAILHAUL_EVENT.
type Kind string

// The kinds of alerts.
const (
	Failing      Kind = "failing"       // the first error, if it may go away by itself
	NeedsPerson  Kind = "needs-person"  // an error that a person has to see to
	StillFailing Kind = "still-failing" // the error lasts; sent once a day
	Recovered    Kind = "recovered"     // the first success after an error
	Refused      Kind = "refused"       // messages that were not refused before
	Warned       Kind = "warned"        // the filter or postpoll fails, or the server does not delete mail
)

// Alert is a change in how an account works, of which the user is to be told.
type Alert struct {
	// Kind is empty if there is nothing to tell the user, but Trouble to remember.
	Kind Kind
	// Summary is the result of the poll. If Warning is set, it has only the
	// name of the account.
	Summary fetch.Summary
	// Since is when the trouble began, LastSuccess when the last poll before
	// this one succeeded. Both may be the zero time.
	Since, LastSuccess time.Time
	// Refused lists the messages of the kind Refused.
	Refused []fetch.Refused
	// Warning is the cause of the kind Warned, unless Summary.NotDeleted is.
	Warning fetch.Warned
	// Level is the highest level of this trouble so far, or of the trouble that
	// is over if Kind is Recovered.
	Level int
	// Trouble is for Watch.MarkSent to save, if Remember is set.
	Trouble  state.Trouble
	Remember bool
}

// Urgent reports whether the alert matters even to a user who does not want to
// hear of trouble that goes away by itself.
func (a Alert) Urgent() bool {
	return a.Kind == Refused || a.Kind == Warned || a.Level > LevelPassing
}

// String returns what has happened, in one line.
func (a Alert) String() string {
	account := a.Summary.Account
	switch a.Kind {
	case Failing:
		return account + " has begun to fail"
	case NeedsPerson:
		if a.Summary.Class == fetch.ClassMachine {
			return account + " fails because this machine is in trouble"
		}
		return account + " fails and needs a person"
	case StillFailing:
		return account + " is still failing"
	case Recovered:
		return account + " works again"
	case Warned:
		switch {
		case a.Warning.Filter:
			return account + ": mail went on unfiltered"
		case a.Warning.Text == "":
			return account + ": its server would not delete mail"
		}
		return account + ": its postpoll fails"
	}
	if len(a.Refused) == 1 {
		return account + ": a message was refused"
	}
	return fmt.Sprintf("%s: %d messages were refused", account, len(a.Refused))
}

// err returns the error that the alert is about, nil if there is none.
func (a Alert) err() error {
	if a.Kind == Warned {
		return a.Summary.NotDeleted
	}
	return a.Summary.Err
}

// text returns what has happened and all that is known about it, in lines for a
// person to read.
func (a Alert) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", a)
	if a.Kind == Refused {
		for _, r := range a.Refused {
			writeField(&b, "message", shortLine(describeRefused(r)))
		}
		return b.String()
	}
	writeField(&b, "error", shortLine(a.Warning.Text))
	if err := a.err(); err != nil {
		writeField(&b, "error", shortLine(err.Error()))
		writeField(&b, "hint", shortLine(fetch.Hint(err)))
	}
	writeField(&b, "since", formatTime(a.Since))
	if a.Kind != Recovered {
		writeField(&b, "last success", formatTime(a.LastSuccess))
	}
	return b.String()
}

// writeField writes a line with a name and a value, and nothing if the value is
// empty.
func writeField(b *strings.Builder, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "%-13s %s\n", name+":", value)
	}
}

// describeRefused returns which message was refused, where it is if it is in the
// quarantine, and why.
func describeRefused(r fetch.Refused) string {
	message := "without a unique-id"
	if r.UID != "" {
		message = strconv.Quote(r.UID)
	}
	if r.Quarantine != "" {
		message += ", now in " + r.Quarantine
	}
	return message + ": " + r.Reason
}

// formatTime returns a time as in RFC 3339, in UTC; "" for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
