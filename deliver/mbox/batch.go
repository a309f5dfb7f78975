package mbox

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// batch is one spool file, and from Prepare on a locked mbox. All its messages
// are of one account.
type batch struct {
	sink *Sink
	path string // of the mbox, symbolic links resolved
	// file and name are the spool file, nil and empty until there is a
	// message; ends and sums are where each message ends in it, and the
	// SHA-256 of each.
	file durable.File
	name string
	ends []int64
	sums [][]byte
	// broken is the error after which the batch can only be aborted.
	broken error
	box    *box
	sealed *prepared
	done   bool
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if b.broken != nil {
		return 0, b.broken
	}
	if err := ctx.Err(); err != nil {
		return 0, b.sink.error("stage", err, "")
	}
	if b.file == nil {
		file, err := b.sink.spool.Create(mail.Account)
		if err != nil {
			return 0, b.fail(err)
		}
		b.file, b.name = file, filepath.Base(file.Name())
		if _, err := file.WriteAt([]byte(leadRoom), offsetLen); err != nil {
			return 0, b.fail(b.sink.spool.Error("write a batch", err))
		}
	}
	start := b.end()
	size, sum, err := b.copy(ctx, mail, body, start)
	if err != nil {
		if terr := b.file.Truncate(start); terr != nil && b.broken == nil {
			return 0, b.fail(errors.Join(err, b.sink.spool.Error("truncate a batch", terr)))
		}
		return 0, err
	}
	b.ends = append(b.ends, start+size)
	b.sums = append(b.sums, sum)
	return deliver.Ticket(len(b.ends) - 1), nil
}

// copy writes a message to the spool file as it will stand in the mbox.
func (b *batch) copy(ctx context.Context, mail deliver.Mail, body io.Reader, start int64) (size int64, sum []byte, err error) {
	out := &spoolWriter{w: io.NewOffsetWriter(b.file, start), sum: sha256.New()}
	buffered := bufio.NewWriterSize(out, chunk)
	quoted := &quoter{w: buffered}
	// An error of the spool stays until Flush.
	_, _ = buffered.WriteString(fromLine(mail))
	if _, err, _ := deliver.Copy(ctx, b.sink.path, quoted, deliver.LFReader(body)); err != nil {
		return 0, nil, err
	}
	_ = quoted.Finish()
	if err := buffered.Flush(); err != nil {
		return 0, nil, b.fail(b.sink.spool.Error("write a batch", err))
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
	if b.broken != nil {
		return nil, b.broken
	}
	if err := ctx.Err(); err != nil {
		return nil, b.sink.error("prepare", err, "")
	}
	if len(b.ends) == 0 {
		return nil, nil
	}
	var err error
	if b.box, err = b.sink.lock(ctx, b.path, true); err != nil {
		return nil, b.fail(err)
	}
	lead, err := b.box.lead()
	if err != nil {
		return nil, b.fail(err)
	}
	b.sealed, err = seal(b.file, index{
		Path: durable.EscapePath(b.path), Inode: b.box.inode,
		Offset: b.box.size, Start: messageAt - lead, Ends: b.ends,
	})
	if err == nil {
		err = b.file.Sync()
	}
	if err != nil {
		return nil, b.fail(b.sink.spool.Error("write a batch", err))
	}
	name, err := b.sink.spool.Rename(b.name, preparedSuffix(b.path))
	if err != nil {
		return nil, b.fail(err)
	}
	b.name, b.sealed.name = name, name
	if err := b.sink.spool.Sync(); err != nil {
		return nil, b.fail(err)
	}
	promises := make([]deliver.Promise, len(b.ends))
	for n := range b.ends {
		sp := b.sealed.message(n)
		t := newToken(b.path, b.name, n, sp.mbox, sp.size, b.sums[n])
		promises[n] = deliver.Promise{Ticket: deliver.Ticket(n), Token: t.String()}
	}
	return promises, nil
}

// Commit implements deliver.Batch.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if b.broken != nil {
		return b.broken
	}
	b.done = true
	if len(b.ends) == 0 {
		b.discard()
		return nil
	}
	defer b.file.Close()
	defer b.box.unlock()
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
	_ = b.sink.spool.Remove(b.name)
	return nil
}

// append writes the batch to the mbox and syncs it, or leaves the mbox as it
// was.
func (b *batch) append(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return b.sink.error("commit", err, "")
	}
	fi, err := b.box.file.Stat()
	if err != nil {
		return b.sink.error("stat", err, "")
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
	err = b.box.write(ctx, b.file, all)
	if err == nil {
		err = b.box.sync()
	}
	if err != nil {
		b.box.takeBack(all)
		return b.sink.error("append", err, "")
	}
	return nil
}

// Abort implements deliver.Batch. An mbox that Prepare created stays there,
// empty: another program may have it open already.
func (b *batch) Abort() error {
	if b.done {
		return nil
	}
	b.done = true
	if b.broken == nil {
		b.broken = errors.New("the batch was aborted")
	}
	if b.box != nil {
		b.box.unlock()
	}
	return b.discard()
}

// discard removes the spool file.
func (b *batch) discard() error {
	if b.file == nil {
		return nil
	}
	_ = b.file.Close()
	return b.sink.spool.Remove(b.name)
}

// end is where the next message begins in the spool file.
func (b *batch) end() int64 {
	if len(b.ends) == 0 {
		return messageAt
	}
	return b.ends[len(b.ends)-1]
}

// fail remembers why the batch can only be aborted.
func (b *batch) fail(err error) error {
	b.broken = err
	return err
}
