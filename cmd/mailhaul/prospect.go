package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// fateStatus returns the fate of a message in two words, for the table of mailhaul list.
func fateStatus(p fetch.Prospect) string {
	switch p.Fate {
	case fetch.FateFetch:
		if p.Row != nil {
			return "try again"
		}
		return "new"
	case fetch.FateCompare:
		return "seen before?"
	case fetch.FateDelete:
		return "to delete"
	case fetch.FateKeep:
		switch {
		case p.Row.Phase == state.Adopted:
			return "adopted"
		case p.Until.IsZero():
			return "kept"
		}
		return "until " + p.Until.Local().Format(time.DateOnly)
	case fetch.FateWait:
		return "refused"
	case fetch.FateSettle:
		return "in delivery"
	case fetch.FateLeave, fetch.FateQuarantine:
		return "too large"
	default:
		return "no unique-id"
	}
}

// fateAction returns what the next fetch does with a message in a word, for the table of
// mailhaul plan.
func fateAction(p fetch.Prospect) string {
	switch p.Fate {
	case fetch.FateFetch, fetch.FateQuarantine:
		return "fetch"
	case fetch.FateCompare:
		return "compare"
	case fetch.FateDelete:
		return "delete"
	case fetch.FateSettle:
		return "settle"
	default:
		return "leave"
	}
}

// fateReason says why a message has its fate.
func fateReason(p fetch.Prospect, a config.Account, now time.Time) string {
	switch p.Fate {
	case fetch.FateFetch:
		switch {
		case p.Row == nil:
			return "new"
		case p.Row.Phase == state.Promised && p.Row.Tries == 0:
			return cmp.Or(collapseBlanks(p.Row.Reason), "delivered to some of its sinks, owed to the others") + ": it is tried by itself"
		default:
			return fmt.Sprintf("tried %s: %s", count(p.Row.Tries, "time"), collapseBlanks(p.Row.Reason))
		}
	case fetch.FateCompare:
		switch {
		case p.Row != nil && p.Row.Phase != state.Deleted:
			return deliveryText(p, now) + "; another message may have its unique-id by now"
		case p.Row != nil:
			return "deleted " + ago(p.Row.Deleted, now) + ", and here again: maybe another message"
		}
		return "maybe delivered before, under another name"
	case fetch.FateDelete:
		return deliveryText(p, now) + ", " + formatKeep(a.Keep)
	case fetch.FateKeep:
		switch {
		case p.Row.Phase == state.Adopted:
			return "adopted: never fetched, never deleted"
		case p.Until.IsZero():
			return deliveryText(p, now) + ", " + formatKeep(a.Keep)
		default:
			return fmt.Sprintf("%s, %s: until %s", deliveryText(p, now), formatKeep(a.Keep), p.Until.Local().Format(time.DateOnly))
		}
	case fetch.FateWait:
		reason := cmp.Or(collapseBlanks(p.Row.Reason), "refused")
		return fmt.Sprintf("tried %s, next try in %s: %s", count(p.Row.Tries, "time"), span(max(0, p.Until.Sub(now))), reason)
	case fetch.FateSettle:
		return "in delivery: a fetch is under way, or was cut off and the next one asks its sink first"
	case fetch.FateLeave:
		return "larger than max_size, " + size(a.MaxSize)
	case fetch.FateQuarantine:
		return "larger than max_size, " + size(a.MaxSize) + ": for the sink " + a.Quarantine
	default:
		return "neither a unique-id nor a header tells it from what is remembered: it stays"
	}
}

// deliveryText says when a message was delivered, or dropped by the filter.
func deliveryText(p fetch.Prospect, now time.Time) string {
	verb := "delivered "
	if p.Dropped {
		verb = "dropped by the filter "
	}
	return verb + ago(p.Row.Landed, now)
}

// formatKeep returns keep as the configuration has it.
func formatKeep(k fetch.Keep) string {
	switch {
	case k.Forever:
		return "keep: forever"
	case k.For == 0:
		return "keep: false"
	case k.For%(24*time.Hour) == 0:
		return fmt.Sprintf("keep: %dd", k.For/(24*time.Hour))
	default:
		return "keep: " + strings.TrimSuffix(strings.TrimSuffix(k.For.String(), "0s"), "0m")
	}
}

// writeLookFailure writes why an account could not be looked at, and returns the
// outcome.
func writeLookFailure(out io.Writer, account string, err error) error {
	paint := painter(isTerminal(out))
	fmt.Fprintf(out, "%s: %s: %s\n", account, paint(red, "FAILED"), clean(err.Error()))
	if hint := fetch.Hint(err); hint != "" {
		fmt.Fprintf(out, "  hint: %s\n", hint)
	}
	return &outcome{fetch.Classify(err)}
}
