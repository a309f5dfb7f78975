package mbox

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// batch is one spool file, and from Prepare on a locked mbox. All its messages
// are of one account.
type batch struct {
	spool.Batch
	sink *Sink
	path string // of the mbox, symbolic links resolved
	// ends and sums are where each message ends in the file, and the SHA-256
	// of each.
	ends   []int64
	sums   [][]byte
	box    *box // nil unless it is locked
	sealed *prepared
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if err := b.Ready(ctx, "stage"); err != nil {
		return 0, err
	}
	if b.File == nil {
		if err := b.Open(mail.Account); err != nil {
			return 0, err
		}
		if _, err := b.File.WriteAt([]byte(leadRoom), offsetLen); err != nil {
			return 0, b.Fault("write a batch", err)
		}
	}
	start := b.end()
	size, sum, err := b.copy(ctx, mail, body, start)
	if err != nil {
		return 0, b.TakeBack(start, err)
	}
	b.ends = append(b.ends, start+size)
	b.sums = append(b.sums, sum)
	return deliver.Ticket(len(b.ends) - 1), nil
}

// copy writes a message to the spool file as it will stand in the mbox.
func (b *batch) copy(ctx context.Context, mail deliver.Mail, body io.Reader, start int64) (size int64, sum []byte, err error) {
	out := &spoolWriter{w: io.NewOffsetWriter(b.File, start), sum: sha256.New()}
	buffered := bufio.NewWriterSize(out, chunk)
	quoted := &quoter{w: buffered}
	// An error of the spool stays until Flush.
	_, _ = buffered.WriteString(fromLine(mail))
	if _, err, _ := deliver.Copy(ctx, b.sink.path, quoted, deliver.LFReader(body)); err != nil {
		return 0, nil, err
	}
	_ = quoted.Finish()
	if err := buffered.Flush(); err != nil {
		return 0, nil, b.Fault("write a batch", err)
	}
	return out.size, out.sum.Sum(nil), nil
}

// spoolWriter counts and sums what goes to the spool.
type spoolWriter struct {
	w    io.Writer
	size int64
	sum  hash.Hash
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	w.sum.Write(p)
	n, err := w.w.Write(p)
	w.size += int64(n)
	return n, err
}

// Prepare implements deliver.Batch. It returns with the mbox locked, unless
// the batch is empty.
func (b *batch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if err := b.Ready(ctx, "prepare"); err != nil {
		return nil, err
	}
	if len(b.ends) == 0 {
		return nil, nil
	}
	var err error
	if b.box, err = b.sink.lock(ctx, b.path, b.Name, true); err != nil {
		return nil, b.Break(err)
	}
	lead, err := b.box.lead()
	if err != nil {
		return nil, b.Break(err)
	}
	b.sealed, err = seal(b.File, index{
		Path: durable.EscapePath(b.path), Inode: b.box.inode,
		Offset: b.box.size, Start: messageAt - lead, Ends: b.ends,
	})
	if err == nil {
		err = b.File.Sync()
	}
	if err != nil {
		return nil, b.Fault("write a batch", err)
	}
	name, err := b.sink.spool.Rename(b.Name, preparedSuffix(b.path))
	if err != nil {
		return nil, b.Break(err)
	}
	b.Name = name
	if err := b.sink.spool.Sync(); err != nil {
		return nil, b.Break(err)
	}
	promises := make([]deliver.Promise, len(b.ends))
	for n := range b.ends {
		sp := b.sealed.message(n)
		promises[n] = deliver.Promise{Ticket: deliver.Ticket(n), Token: token{
			Path: b.sealed.Path, Spool: b.Name, N: n,
			Offset: sp.mbox, Length: sp.size, Sum: hex.EncodeToString(b.sums[n]),
		}.String()}
	}
	return promises, nil
}

// Commit implements deliver.Batch.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if err := b.Commits(); err != nil {
		return err
	}
	if len(b.ends) == 0 {
		_ = b.Discard()
		return nil
	}
	defer b.File.Close()
	defer b.unlock()
	if err := b.append(ctx); err != nil {
		return err
	}
	for n := range b.ends {
		if err := landed(deliver.Receipt{Ticket: deliver.Ticket(n), Where: b.path}); err != nil {
			// Once unlocked, the owner may move what was not journalled; that
			// can be any of them, if the caller journals several at once.
			for n := range b.ends {
				b.sealed.marks[n] = markLanded
			}
			return errors.Join(err, b.box.saveMarks(b.sealed))
		}
	}
	// If it cannot be removed, Sweep removes it.
	_ = b.sink.spool.Remove(b.Name)
	return nil
}

// append writes the batch to the mbox and syncs it, or leaves the mbox as it
// was.
func (b *batch) append(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return b.sink.fail("commit", err)
	}
	fi, err := b.box.file.Stat()
	if err != nil {
		return b.sink.fail("stat", err)
	}
	if fi.Size() != b.box.size {
		// To go on would overwrite another's mail.
		return &deliver.Error{
			Fault: deliver.FaultTemporary, Target: b.sink.path, Op: "append",
			Err:  errors.New("another program changed it while it was locked"),
			Hint: "let all programs that write to it use fcntl locks or the lock file " + b.path + ".lock",
		}
	}
	all := b.sealed.all()
	err = b.box.write(ctx, b.File, all)
	if err == nil {
		err = b.box.sync()
	}
	if err != nil {
		b.box.takeBack(all)
		return b.sink.fail("append", err)
	}
	return nil
}

// Abort implements deliver.Batch. An mbox that Prepare created stays there,
// empty: another program may have it open already.
func (b *batch) Abort() error {
	b.unlock()
	return b.Batch.Abort()
}

func (b *batch) unlock() {
	if b.box != nil {
		b.box.unlock()
		b.box = nil
	}
}

// end is where the next message begins in the spool file.
func (b *batch) end() int64 {
	if len(b.ends) == 0 {
		return messageAt
	}
	return b.ends[len(b.ends)-1]
}
