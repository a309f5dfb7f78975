package modeltest

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// sabotage is one mistake: a step of what keeps mail safe is left out or misplaced.
type sabotage struct {
	name    string
	kinds   []*sinkKind
	needs   schedule                   // what must be explored to notice it; zero is one message and one fault
	op      func(durabletest.Op) error // hook of the disk
	journal journalFaults
	eager   bool // the server deletes what was retrieved
	sink    func(*run, deliver.Sink) deliver.Sink
}

// sabotages are the mistakes that the model must notice.
var sabotages = []sabotage{
	{name: "a message is not synced", kinds: bothKinds, op: skip(durabletest.Sync, "/mail/dir/tmp/", "/mail/spool/")},
	{name: "tmp is not synced", kinds: maildirKind.only(), op: skip(durabletest.SyncDir, "/mail/dir/tmp/")},
	{name: "the spool is not synced", kinds: mboxKind.only(), op: skip(durabletest.SyncDir, "/mail/spool/")},
	{name: "new is not synced", kinds: maildirKind.only(), op: skip(durabletest.SyncDir, "/mail/dir/new/")},
	{name: "the mbox is not synced", kinds: mboxKind.only(), op: skip(durabletest.Sync, inbox+"/")},
	{name: "the promise follows the mail", kinds: bothKinds, sink: batches(promiseLate)},
	{name: "the promise is not durable", kinds: bothKinds, journal: journalFaults{promiseNotSynced: true}},
	{name: "the landing precedes the mail", kinds: mboxKind.only(), sink: batches(landEarly)},
	{name: "the landing precedes the mail", kinds: maildirKind.only(), sink: landBeforeClose},
	{name: "DELE precedes the landing", kinds: bothKinds, eager: true},
	{name: "what the journal says is believed at once", kinds: bothKinds, needs: schedule{1, 1, false, 2, 0}, journal: journalFaults{openNotSynced: true}},
	{name: "Settle does not look into tmp", kinds: maildirKind.only(), sink: func(r *run, s deliver.Sink) deliver.Sink {
		return settledBy(r, s, hidesTmp{r.disk}, 0)
	}},
	{name: "Settle does not wait 36 hours", kinds: maildirKind.only(), needs: schedule{1, 1, false, 1, 1}, sink: func(r *run, s deliver.Sink) deliver.Sink {
		return settledBy(r, s, r.disk, 48*time.Hour)
	}},
	{name: "the mbox is not compared", kinds: mboxKind.only(), needs: schedule{2, 2, false, 1, 1}, sink: func(r *run, _ deliver.Sink) deliver.Sink {
		s, err := r.kind.open(blind{r.disk}, nil)
		must(err)
		return s
	}},
	{name: "the lock is released before the landing", kinds: mboxKind.only(), needs: schedule{1, 1, false, 1, 1}, sink: batches(landLate)},
}

var bothKinds = []*sinkKind{maildirKind, mboxKind}

func (p *sinkKind) only() []*sinkKind { return []*sinkKind{p} }

// skip returns a hook that leaves out the operations verb on anything below these folders.
func skip(verb durabletest.Verb, folders ...string) func(durabletest.Op) error {
	return func(op durabletest.Op) error {
		below := func(folder string) bool { return strings.HasPrefix(op.Path+"/", folder) }
		if op.Verb == verb && slices.ContainsFunc(folders, below) {
			return durabletest.ErrSkip
		}
		return nil
	}
}

// hookedSink is a sink with other batches, another Settle, or something to do before
// Close.
type hookedSink struct {
	deliver.Sink
	wrap   func(deliver.Batch) deliver.Batch
	settle func(context.Context, string) (deliver.Verdict, error)
	close  func() error // called before Close
}

func (s *hookedSink) Close() error {
	var err error
	if s.close != nil {
		err = s.close()
	}
	return errors.Join(err, s.Sink.Close())
}

func (s *hookedSink) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	if err == nil && s.wrap != nil {
		b = s.wrap(b)
	}
	return b, err
}

func (s *hookedSink) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	if s.settle == nil {
		return s.Sink.Settle(ctx, token)
	}
	return s.settle(ctx, token)
}

// batches wraps each batch of a sink.
func batches(wrap func(deliver.Batch) deliver.Batch) func(*run, deliver.Sink) deliver.Sink {
	return func(_ *run, s deliver.Sink) deliver.Sink { return &hookedSink{Sink: s, wrap: wrap} }
}

// settledBy has a second sink answer Settle for s: one on another disk, whose clock is
// ahead by so much.
func settledBy(r *run, s deliver.Sink, disk durable.FS, later time.Duration) deliver.Sink {
	other, err := r.kind.open(disk, func() time.Time { return r.w.now.Add(later) })
	must(err)
	return &hookedSink{Sink: s, settle: other.Settle}
}

// hookedBatch is a batch with another Prepare and Commit.
type hookedBatch struct {
	deliver.Batch
	prepare func(context.Context) ([]deliver.Promise, error)
	commit  func(context.Context, func(deliver.Receipt) error) error
}

func (b *hookedBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) { return b.prepare(ctx) }

func (b *hookedBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	return b.commit(ctx, landed)
}

// promiseLate commits in Prepare, before the promises are journalled.
func promiseLate(b deliver.Batch) deliver.Batch {
	var receipts []deliver.Receipt
	return &hookedBatch{b,
		func(ctx context.Context) ([]deliver.Promise, error) {
			promises, err := b.Prepare(ctx)
			if err != nil {
				return nil, err
			}
			return promises, b.Commit(ctx, collect(&receipts))
		},
		func(_ context.Context, landed func(deliver.Receipt) error) error { return report(receipts, landed) },
	}
}

// landEarly reports all messages as landed before it commits them.
func landEarly(b deliver.Batch) deliver.Batch {
	var receipts []deliver.Receipt
	return &hookedBatch{b, prepareKnowing(b, &receipts), func(ctx context.Context, landed func(deliver.Receipt) error) error {
		if err := report(receipts, landed); err != nil {
			return err
		}
		return b.Commit(ctx, func(deliver.Receipt) error { return nil })
	}}
}

// prepareKnowing returns a Prepare that also notes the receipts which Commit will give.
func prepareKnowing(b deliver.Batch, receipts *[]deliver.Receipt) func(context.Context) ([]deliver.Promise, error) {
	return func(ctx context.Context) ([]deliver.Promise, error) {
		promises, err := b.Prepare(ctx)
		for _, p := range promises {
			*receipts = append(*receipts, deliver.Receipt{Ticket: p.Ticket})
		}
		return promises, err
	}
}

// landBeforeClose has batches report that all has landed, and commits them when the sink
// is closed. A sink without locks cannot simply report early: its landings are journalled
// after Commit has returned.
func landBeforeClose(_ *run, s deliver.Sink) deliver.Sink {
	var left []deliver.Batch
	return &hookedSink{Sink: s,
		wrap: func(b deliver.Batch) deliver.Batch {
			var receipts []deliver.Receipt
			return &hookedBatch{b, prepareKnowing(b, &receipts), func(_ context.Context, landed func(deliver.Receipt) error) error {
				left = append(left, b)
				return report(receipts, landed)
			}}
		},
		close: func() (err error) {
			for _, b := range left {
				err = errors.Join(err, b.Commit(context.Background(), func(deliver.Receipt) error { return nil }))
			}
			return err
		},
	}
}

// landLate commits, which releases the locks, before it reports what has landed.
func landLate(b deliver.Batch) deliver.Batch {
	return &hookedBatch{b, b.Prepare, func(ctx context.Context, landed func(deliver.Receipt) error) error {
		var receipts []deliver.Receipt
		if err := b.Commit(ctx, collect(&receipts)); err != nil {
			return err
		}
		return report(receipts, landed)
	}}
}

// collect appends receipts.
func collect(receipts *[]deliver.Receipt) func(deliver.Receipt) error {
	return func(r deliver.Receipt) error {
		*receipts = append(*receipts, r)
		return nil
	}
}

// report reports receipts that were collected.
func report(receipts []deliver.Receipt, landed func(deliver.Receipt) error) error {
	for _, r := range receipts {
		if err := landed(r); err != nil {
			return err
		}
	}
	return nil
}

// hidesTmp is a disk that does not find the files in tmp/.
type hidesTmp struct{ durable.FS }

func (d hidesTmp) Stat(name string) (fs.FileInfo, error) {
	if filepath.Dir(name) == "/mail/dir/tmp" {
		return nil, fs.ErrNotExist
	}
	return d.FS.Stat(name)
}

// blind is a disk that reads zeros in place of the messages of the mbox. They count as
// equal to anything.
type blind struct{ durable.FS }

func (d blind) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err == nil && name == inbox {
		f = blindFile{f}
	}
	return f, err
}

type blindFile struct{ durable.File }

func (f blindFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if len(p) > len("From ") { // a read of "From " shows the form of the mbox, and is left as it is
		clear(p[:n])
	}
	return n, err
}
