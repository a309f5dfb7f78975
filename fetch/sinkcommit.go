package fetch

import (
	"cmp"
	"context"
	"slices"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// sinkCommit is a sinkBatch from Prepare on. It collects the receipts of Commit and
// journals them all at once, with the last one, while the sink still holds its locks
// and its own notes. If canDefer, that waits until the next batch is prepared.
type sinkCommit struct {
	*sinkBatch
	c            *committer
	ctx          context.Context   // not cancelled with the poll
	promises     []state.Promise   // by ticket
	received     []deliver.Receipt // so far
	flushedCount int               // how many of received are journalled
	flushFailed  bool
	// untaken are the promises of a failed Commit that the sink is known not to have
	// kept, and untakenReason is why.
	untaken       []state.Promise
	untakenReason string
}

// add is the callback of Batch.Commit.
func (sc *sinkCommit) add(rc deliver.Receipt) error {
	sc.received = append(sc.received, rc)
	if len(sc.received) < len(sc.items) || sc.canDefer() {
		return nil
	}
	return sc.flush()
}

// withdrawUnreported withdraws the promises of messages that the sink did not get to,
// for a reason that is no message's fault.
func (sc *sinkCommit) withdrawUnreported(err error) {
	for _, t := range sc.unreportedTickets() {
		sc.items[t].notReached = true
		sc.received = append(sc.received, deliver.Receipt{Ticket: t, Err: err})
	}
}

// suspectUnreported makes suspects of the messages that a failed Commit did not report,
// as settling their promises in the next poll would.
func (sc *sinkCommit) suspectUnreported(err error) {
	for _, t := range sc.unreportedTickets() {
		sc.untaken = append(sc.untaken, sc.promises[t])
	}
	sc.untakenReason = err.Error()
}

// unreportedTickets returns the tickets for which Commit gave no receipt.
func (sc *sinkCommit) unreportedTickets() (tickets []deliver.Ticket) {
	reported := map[deliver.Ticket]bool{}
	for _, rc := range sc.received {
		reported[rc.Ticket] = true
	}
	for i := range sc.items {
		if t := deliver.Ticket(i); !reported[t] {
			tickets = append(tickets, t)
		}
	}
	return tickets
}

// tookAny reports whether the sink took any of its messages.
func (sc *sinkCommit) tookAny() bool {
	return slices.ContainsFunc(sc.received, func(rc deliver.Receipt) bool { return rc.Err == nil })
}

// canDefer reports whether the receipts may be journalled later: the sink can settle
// its promises at any time, holds no lock, and has refused no message.
func (sc *sinkCommit) canDefer() bool {
	p := sc.Sink.Profile()
	refused := func(rc deliver.Receipt) bool { return rc.Err != nil }
	return p.Guarantee == deliver.ExactlyOnce && !p.Locks && !slices.ContainsFunc(sc.received, refused)
}

// flush journals and reports the receipts that are not journalled yet. After an error
// it does nothing more: the promises stay open.
func (sc *sinkCommit) flush() error {
	fresh := sc.received[sc.flushedCount:]
	if len(fresh) == 0 || sc.flushFailed {
		return nil
	}
	if err := sc.journalReceipts(fresh); err != nil {
		sc.flushFailed = true
		return err
	}
	sc.flushedCount = len(sc.received)
	for _, rc := range fresh {
		it := sc.items[rc.Ticket]
		it.pendingSinks--
		if rc.Err != nil {
			it.err = cmp.Or(it.err, rc.Err)
			continue
		}
		sc.c.report(Landed{Account: sc.c.account, UID: it.want.UID, Sink: sc.Name, Where: rc.Where, Octets: it.octets})
	}
	return nil
}

func (sc *sinkCommit) journalReceipts(receipts []deliver.Receipt) error {
	var landings []state.Landing
	var refused, suspect []state.Promise
	for _, rc := range receipts {
		it, promise := sc.items[rc.Ticket], sc.promises[rc.Ticket]
		switch {
		case rc.Err != nil && it.notReached && it.want.isSuspect():
			suspect = append(suspect, promise)
		case rc.Err != nil:
			refused = append(refused, promise)
		default:
			landing := state.Landing{UID: promise.UID, Sink: promise.Sink}
			if rc.Where != promise.Where {
				landing.Where = rc.Where
			}
			landings = append(landings, landing)
		}
	}
	if len(landings) > 0 {
		if err := sc.c.journal.Land(sc.ctx, sc.c.account, sc.c.now().Unix(), landings); err != nil {
			return err
		}
	}
	return sc.c.withdraw(sc.ctx, refused, suspect)
}
