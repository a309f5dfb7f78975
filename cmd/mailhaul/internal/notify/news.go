package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// Patience is how long temporary trouble may last before it is Lasting, and
// the pause before trouble that lasts is told of again.
const Patience = 24 * time.Hour

// The levels of state.Trouble, from what may pass by itself to what does not.
const (
	// Passing trouble is temporary and young.
	Passing = 1 + iota
	// Lasting trouble is temporary, but the account has not done well for
	// longer than Patience, or never.
	Lasting
	// Person is trouble that takes a person.
	Person
)

// Kind is what has happened.
type Kind string

// The kinds of news, as MAILHAUL_EVENT has them.
const (
	Failing      Kind = "failing"       // the first poll that failed, of temporary trouble
	NeedsPerson  Kind = "needs-person"  // it will not pass by itself
	StillFailing Kind = "still-failing" // a day later, and each day from then on
	Recovered    Kind = "recovered"
	Refused      Kind = "refused" // messages that were not refused before
	Warned       Kind = "warned"  // a filter or a command after the polls fails, or the server would not delete mail
)

// News is a change in how an account does.
type News struct {
	// Kind is empty if there is nothing to tell, but something to remember.
	Kind    Kind
	Summary fetch.Summary // with a Warning, the account alone
	// Since is when the trouble began, LastSuccess when the account did well
	// before this poll. LastSuccess is zero if it never did.
	Since, LastSuccess time.Time
	// Refused are the messages of the kind Refused, Warning what the kind Warned
	// tells, unless it is Summary.NotDeleted.
	Refused []fetch.Refused
	Warning fetch.Warned
	// Level is the highest that was told, also of trouble that is over.
	Level int
	// Trouble is what the person has been told of with this piece of news,
	// and is to be remembered by Watch.Told then, if Remember is set.
	Trouble  state.Trouble
	Remember bool
}

// Urgent reports whether the news is for somebody who wants to be left alone
// by what passes by itself.
func (n News) Urgent() bool { return n.Kind == Refused || n.Kind == Warned || n.Level > Passing }

// String says in a line what has happened.
func (n News) String() string {
	account := n.Summary.Account
	switch n.Kind {
	case Failing:
		return account + " has begun to fail"
	case NeedsPerson:
		if n.Summary.Class == fetch.ClassMachine {
			return account + " fails because this machine is in trouble"
		}
		return account + " fails and needs a person"
	case StillFailing:
		return account + " is still failing"
	case Recovered:
		return account + " works again"
	case Warned:
		switch {
		case n.Warning.Filter:
			return account + ": mail went on unfiltered"
		case n.Warning.Text == "":
			return account + ": its server would not delete mail"
		}
		return account + ": its postpoll fails"
	}
	if len(n.Refused) == 1 {
		return account + ": a message was refused"
	}
	return fmt.Sprintf("%s: %d messages were refused", account, len(n.Refused))
}

// err returns the error that the news is about, nil if it is none.
func (n News) err() error {
	if n.Kind == Warned {
		return n.Summary.NotDeleted
	}
	return n.Summary.Err
}

// text says it in full.
func (n News) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", n.String())
	// fact leaves out what is not known.
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s %s\n", name+":", value)
		}
	}
	if n.Kind == Refused {
		for _, r := range n.Refused {
			which, place := "without a unique-id", ""
			if r.UID != "" {
				which = strconv.Quote(r.UID)
			}
			if r.Quarantine != "" {
				place = ", now in " + r.Quarantine
			}
			fact("message", oneLine(which+place+": "+r.Reason))
		}
		return b.String()
	}
	fact("error", oneLine(n.Warning.Text))
	if err := n.err(); err != nil {
		fact("error", oneLine(err.Error()))
		fact("hint", oneLine(fetch.Hint(err)))
	}
	fact("since", formatTime(n.Since))
	if n.Kind != Recovered {
		fact("last success", formatTime(n.LastSuccess))
	}
	return b.String()
}
