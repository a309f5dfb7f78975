package fetch

import (
	"cmp"
	"math"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// tries returns how often the message was tried in vain.
func (w *Want) tries() int {
	if w.Row == nil {
		return 0
	}
	return w.Row.Tries
}

// dueSince returns since when the message is due for another try, 0 if it is new.
func (w *Want) dueSince() int64 {
	if w.Row == nil {
		return 0
	}
	return w.Row.NextTry
}

// suspect reports whether a sink may have failed over the message: it comes after
// all others, in a batch of its own, so that it is known over what if the sink
// fails again.
func (w *Want) mayBreakSink() bool { return w.Row != nil && w.Row.Phase == state.Promised }

// inOrder is the order of messages that gave no trouble.
func byTries(a, b Want) int {
	return cmp.Or(cmp.Compare(a.tries(), b.tries()), cmp.Compare(a.Num, b.Num))
}

// inTurn is that of those which did: what has been due for longest comes first. Of
// what is due at one time that is what was never refused, and then what waited most
// often: a sink that takes nothing more refuses those, too, whose turn does not come.
func byDueTime(a, b Want) int {
	switch {
	case !a.mayBreakSink() && b.mayBreakSink():
		return -1 // or it would wait for as long as the sink fails over the others
	case a.mayBreakSink() && !b.mayBreakSink():
		return 1
	}
	waited := func(w Want) int { return cmp.Or(w.tries(), math.MaxInt) }
	return cmp.Or(cmp.Compare(a.dueSince(), b.dueSince()), cmp.Compare(waited(b), waited(a)), cmp.Compare(a.Num, b.Num))
}
