package fetch

import (
	"cmp"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The bounds of a batch, unless a sink has lower ones. Each batch costs one round of
// fsyncs; a crash costs the download of what is not promised yet.
const (
	batchMessages = 64
	batchBytes    = 32 << 20
	batchAge      = 2 * time.Second

	// Towards the end of a download, batches shrink to this many messages: DELE waits
	// for the last commit, which no download overlaps.
	batchLast = 24
)

// batch is a group of messages that are committed together. Each sink that any of them
// is for has a sinkBatch in it.
type batch struct {
	sinks   []*sinkBatch
	items   []*item
	bytes   int64
	started time.Time
}

// sinkBatch is the part of a batch that goes to one sink.
type sinkBatch struct {
	Target
	deliver.Batch
	items []*item // by ticket
}

// item is one message of a batch.
type item struct {
	want            Want
	octets          int64
	header, content state.Sum
	// complete is set once the message has come in to its end and all sinks that it is
	// for are known.
	complete bool
	// doubtedSince is when it became doubtful whether this is the message of its
	// unique-id, in Unix seconds; 0 if it is not doubtful.
	doubtedSince int64

	// pendingSinks counts the sinks that staged the message and have not reported its
	// delivery yet.
	pendingSinks int
	// missingFrom are the sinks that still have to get the message at a later try: they
	// failed to stage it, or they have another message by its unique-id.
	missingFrom []Target
	// heldBy are the sinks that took a message by this unique-id at an earlier try.
	heldBy []Target
	// err is the first error of a sink that did not take the message.
	err error

	// The committer sets these; see committer.assignBlame.
	blamed        bool // a sink's failure is put down to this message
	blameUnproven bool // likely, but no other message has shown that the sink works
	notReached    bool // a sink's Commit ended before it tried this message
	batchDone     bool // its batch has been journalled

	// dropped is set if the filter wants the message delivered nowhere.
	dropped bool
	// unfiltered is why the filter failed on a message that is delivered nevertheless;
	// empty if it did not fail.
	unfiltered string
}

// abandon aborts the sink's batch because of err: the sink has yet to get its messages.
func (p *sinkBatch) abandon(err error) {
	p.Abort()
	for _, it := range p.items {
		it.pendingSinks--
		it.missingFrom = append(it.missingFrom, p.Target)
		it.err = cmp.Or(it.err, err)
	}
	p.items = nil
}

// newPromise returns the journal's record of a promise that a sink made for the item.
func (it *item) newPromise(sink string, made deliver.Promise) state.Promise {
	return state.Promise{
		UID: it.want.Key, Sink: sink, Token: made.Token, Where: made.Where,
		Size: it.octets, Header: it.header, Content: it.content, Missing: it.doubtedSince,
	}
}

// isFull reports whether the batch should be committed before more is staged. remaining
// is how many messages are still to come.
func (b *batch) isFull(now time.Time, remaining int) bool {
	if len(b.items) >= min(batchMessages, max(batchLast, remaining)) || b.bytes >= batchBytes || now.Sub(b.started) >= batchAge {
		return true
	}
	return slices.ContainsFunc(b.sinks, func(p *sinkBatch) bool {
		most := p.Sink.Profile().MaxMessages
		return most > 0 && len(p.items) >= most
	})
}

// abort drops what was not committed.
func (b *batch) abort() {
	for _, p := range b.sinks {
		p.Abort()
	}
}
