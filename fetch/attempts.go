package fetch

import (
	"cmp"
	"math"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// tries returns how many attempts to fetch the message have failed.
func (w *Want) tries() int {
	if w.Row == nil {
		return 0
	}
	return w.Row.Tries
}

// dueSince returns since when the message is due for another attempt, in Unix seconds; 0
// if it is new.
func (w *Want) dueSince() int64 {
	if w.Row == nil {
		return 0
	}
	return w.Row.NextTry
}

// isSuspect reports whether the message is suspect: a sink may have failed because of
// it. Such a message comes last, in a batch of its own, so that it is clear which message
// was at fault if the sink fails again.
func (w *Want) isSuspect() bool { return w.Row != nil && w.Row.Phase == state.Promised }

// byTries orders messages by how many attempts have failed, and then by number.
func byTries(a, b Want) int {
	return cmp.Or(cmp.Compare(a.tries(), b.tries()), cmp.Compare(a.Num, b.Num))
}

// byDueTime orders messages that gave trouble: what has been due for longest comes first.
// Of messages due at the same time, those that were never refused come first, and then
// those that had the most attempts, because a sink that takes nothing more also refuses
// messages whose turn did not come.
func byDueTime(a, b Want) int {
	switch {
	case !a.isSuspect() && b.isSuspect():
		return -1 // else it would wait for as long as the sink fails because of others
	case a.isSuspect() && !b.isSuspect():
		return 1
	}
	waited := func(w Want) int { return cmp.Or(w.tries(), math.MaxInt) }
	return cmp.Or(cmp.Compare(a.dueSince(), b.dueSince()), cmp.Compare(waited(b), waited(a)), cmp.Compare(a.Num, b.Num))
}
