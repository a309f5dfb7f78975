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

// sabotage leaves out, or misplaces, a step of what keeps mail safe.
type sabotage struct {
	name   string
	places []*place
	needs  schedule                   // to be noticed; zero is one message and one trouble
	op     func(durabletest.Op) error // for the disk
	lies   lies                       // of the journal
	eager  bool                       // the server deletes what it has sent
	sink   func(*run, deliver.Sink) deliver.Sink
}

// sabotages are what the model must notice.
var sabotages = []sabotage{
	{name: "a message is not synced", places: both, op: skip(durabletest.Sync, "/mail/dir/tmp/", "/mail/spool/")},
	{name: "tmp is not synced", places: maildirs.only(), op: skip(durabletest.SyncDir, "/mail/dir/tmp/")},
	{name: "the spool is not synced", places: mboxes.only(), op: skip(durabletest.SyncDir, "/mail/spool/")},
	{name: "new is not synced", places: maildirs.only(), op: skip(durabletest.SyncDir, "/mail/dir/new/")},
	{name: "the mbox is not synced", places: mboxes.only(), op: skip(durabletest.Sync, inbox+"/")},
	{name: "the promise follows the mail", places: both, sink: batches(promiseLate)},
	{name: "the promise is not durable", places: both, lies: lies{promises: true}},
	{name: "the landing precedes the mail", places: mboxes.only(), sink: batches(landEarly)},
	{name: "the landing precedes the mail", places: maildirs.only(), sink: landBeforeClose},
	{name: "DELE precedes the landing", places: both, eager: true},
	{name: "what the journal says is believed at once", places: both, needs: schedule{1, 1, false, 2, 0}, lies: lies{open: true}},
	{name: "Settle does not look into tmp", places: maildirs.only(), sink: func(r *run, s deliver.Sink) deliver.Sink {
		return settledBy(r, s, hidesTmp{r.disk}, 0)
	}},
	{name: "Settle does not wait 36 hours", places: maildirs.only(), needs: schedule{1, 1, false, 1, 1}, sink: func(r *run, s deliver.Sink) deliver.Sink {
		return settledBy(r, s, r.disk, 48*time.Hour)
	}},
	{name: "the mbox is not compared", places: mboxes.only(), needs: schedule{2, 2, false, 1, 1}, sink: func(r *run, _ deliver.Sink) deliver.Sink {
		s, err := r.place.open(blind{r.disk}, nil)
		must(err)
		return s
	}},
	{name: "the lock is released before the landing", places: mboxes.only(), needs: schedule{1, 1, false, 1, 1}, sink: batches(landLate)},
}

var both = []*place{maildirs, mboxes}

func (p *place) only() []*place { return []*place{p} }

// skip leaves out the operations of a verb on what is below some folders.
func skip(verb durabletest.Verb, folders ...string) func(durabletest.Op) error {
	return func(op durabletest.Op) error {
		below := func(folder string) bool { return strings.HasPrefix(op.Path+"/", folder) }
		if op.Verb == verb && slices.ContainsFunc(folders, below) {
			return durabletest.ErrSkip
		}
		return nil
	}
}

// otherSink is a sink whose batches, or whose answers, are another's.
type otherSink struct {
	deliver.Sink
	wrap   func(deliver.Batch) deliver.Batch
	settle func(context.Context, string) (deliver.Verdict, error)
	close  func() error // first
}

func (s *otherSink) Close() error {
	var err error
	if s.close != nil {
		err = s.close()
	}
	return errors.Join(err, s.Sink.Close())
}

func (s *otherSink) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	if err == nil && s.wrap != nil {
		b = s.wrap(b)
	}
	return b, err
}

func (s *otherSink) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	if s.settle == nil {
		return s.Sink.Settle(ctx, token)
	}
	return s.settle(ctx, token)
}

func batches(wrap func(deliver.Batch) deliver.Batch) func(*run, deliver.Sink) deliver.Sink {
	return func(_ *run, s deliver.Sink) deliver.Sink { return &otherSink{Sink: s, wrap: wrap} }
}

// settledBy has a sink on another disk, and after a while, answer for s.
func settledBy(r *run, s deliver.Sink, disk durable.FS, later time.Duration) deliver.Sink {
	other, err := r.place.open(disk, func() time.Time { return r.w.now.Add(later) })
	must(err)
	return &otherSink{Sink: s, settle: other.Settle}
}

// otherBatch is a batch with other phases.
type otherBatch struct {
	deliver.Batch
	prepare func(context.Context) ([]deliver.Promise, error)
	commit  func(context.Context, func(deliver.Receipt) error) error
}

func (b *otherBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) { return b.prepare(ctx) }

func (b *otherBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	return b.commit(ctx, landed)
}

func promiseLate(b deliver.Batch) deliver.Batch {
	var receipts []deliver.Receipt
	return &otherBatch{b,
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

func landEarly(b deliver.Batch) deliver.Batch {
	var receipts []deliver.Receipt
	return &otherBatch{b, foretell(b, &receipts), func(ctx context.Context, landed func(deliver.Receipt) error) error {
		if err := report(receipts, landed); err != nil {
			return err
		}
		return b.Commit(ctx, func(deliver.Receipt) error { return nil })
	}}
}

// foretell is a Prepare that knows the receipts.
func foretell(b deliver.Batch, receipts *[]deliver.Receipt) func(context.Context) ([]deliver.Promise, error) {
	return func(ctx context.Context) ([]deliver.Promise, error) {
		promises, err := b.Prepare(ctx)
		for _, p := range promises {
			*receipts = append(*receipts, deliver.Receipt{Ticket: p.Ticket})
		}
		return promises, err
	}
}

// landBeforeClose has batches say that all has landed, and commits them when the
// sink is closed: what is exactly once without locks is not journalled before its
// Commit has returned.
func landBeforeClose(_ *run, s deliver.Sink) deliver.Sink {
	var left []deliver.Batch
	return &otherSink{Sink: s,
		wrap: func(b deliver.Batch) deliver.Batch {
			var receipts []deliver.Receipt
			return &otherBatch{b, foretell(b, &receipts), func(_ context.Context, landed func(deliver.Receipt) error) error {
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

func landLate(b deliver.Batch) deliver.Batch {
	return &otherBatch{b, b.Prepare, func(ctx context.Context, landed func(deliver.Receipt) error) error {
		var receipts []deliver.Receipt
		if err := b.Commit(ctx, collect(&receipts)); err != nil {
			return err
		}
		return report(receipts, landed)
	}}
}

func collect(receipts *[]deliver.Receipt) func(deliver.Receipt) error {
	return func(r deliver.Receipt) error {
		*receipts = append(*receipts, r)
		return nil
	}
}

func report(receipts []deliver.Receipt, landed func(deliver.Receipt) error) error {
	for _, r := range receipts {
		if err := landed(r); err != nil {
			return err
		}
	}
	return nil
}

// hidesTmp does not find the files in tmp/.
type hidesTmp struct{ durable.FS }

func (d hidesTmp) Stat(name string) (fs.FileInfo, error) {
	if filepath.Dir(name) == "/mail/dir/tmp" {
		return nil, fs.ErrNotExist
	}
	return d.FS.Stat(name)
}

// blind reads holes where messages are in the mbox. They fit anything.
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
	if len(p) > len("From ") { // the form of the mbox is looked at all the same
		clear(p[:n])
	}
	return n, err
}
