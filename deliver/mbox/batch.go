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

// batch is a spool file and, from Prepare on, a locked mbox. All messages belong to one
// account.
type batch struct {
	spool.Batch
	sink     *Sink
	path     string      // of the mbox, symbolic links resolved
	ends     []int64     // where each message ends in the spool file
	sums     [][]byte    // the SHA-256 of each message
	locked   *lockedMbox // nil unless it is locked
	prepared *preparedFile
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if err := b.Check(ctx, "stage"); err != nil {
		return 0, err
	}
	if b.File == nil {
		if err := b.Open(mail.Account); err != nil {
			return 0, err
		}
		if _, err := b.File.WriteAt([]byte(leadNewlines), indexOffsetLen); err != nil {
			return 0, b.FailFile("write a batch", err)
		}
	}
	start := b.end()
	size, sum, err := b.copy(ctx, mail, body, start)
	if err != nil {
		return 0, b.TruncateTo(start, err)
	}
	b.ends = append(b.ends, start+size)
	b.sums = append(b.sums, sum)
	return deliver.Ticket(len(b.ends) - 1), nil
}

// copy writes a message to the spool file, as it will be in the mbox.
func (b *batch) copy(ctx context.Context, mail deliver.Mail, body io.Reader, start int64) (size int64, sum []byte, err error) {
	out := &spoolWriter{w: io.NewOffsetWriter(b.File, start), sum: sha256.New()}
	buffered := bufio.NewWriterSize(out, chunkSize)
	quoted := &quoter{w: buffered}
	// An error of the spool stays until Flush.
	_, _ = buffered.WriteString(fromLine(mail))
	if _, err, _ := deliver.Copy(ctx, b.sink.path, quoted, deliver.LFReader(body)); err != nil {
		return 0, nil, err
	}
	_ = quoted.Finish()
	if err := buffered.Flush(); err != nil {
		return 0, nil, b.FailFile("write a batch", err)
	}
	return out.size, out.sum.Sum(nil), nil
}

// spoolWriter writes to the spool and computes the size and the checksum.
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
	if err := b.Check(ctx, "prepare"); err != nil {
		return nil, err
	}
	if len(b.ends) == 0 {
		return nil, nil
	}
	var err error
	if b.locked, err = b.sink.lock(ctx, b.path, b.Name, true); err != nil {
		return nil, b.Fail(err)
	}
	lead, err := b.locked.missingNewlines()
	if err != nil {
		return nil, b.Fail(err)
	}
	b.prepared, err = writeIndex(b.File, index{
		Path: durable.EscapePath(b.path), Inode: b.locked.inode,
		Offset: b.locked.size, Start: messagesOffset - lead, Ends: b.ends,
	})
	if err == nil {
		err = b.File.Sync()
	}
	if err != nil {
		return nil, b.FailFile("write a batch", err)
	}
	name, err := b.sink.spool.Rename(b.Name, preparedSuffix(b.path))
	if err != nil {
		return nil, b.Fail(err)
	}
	b.Name = name
	if err := b.sink.spool.Sync(); err != nil {
		return nil, b.Fail(err)
	}
	promises := make([]deliver.Promise, len(b.ends))
	for n := range b.ends {
		sp := b.prepared.textSpan(n)
		promises[n] = deliver.Promise{Ticket: deliver.Ticket(n), Token: token{
			Path: b.prepared.Path, Spool: b.Name, N: n,
			Offset: sp.mbox, Length: sp.size, Sum: hex.EncodeToString(b.sums[n]),
		}.String()}
	}
	return promises, nil
}

// Commit implements deliver.Batch.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if err := b.BeginCommit(); err != nil {
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
			// After the unlock the owner may move messages that are not recorded in
			// the journal. These can be any of them, since the caller may record
			// several at once.
			for n := range b.ends {
				b.prepared.marks[n] = markLanded
			}
			return errors.Join(err, b.locked.saveMarks(b.prepared))
		}
	}
	// If it cannot be removed, Sweep removes it.
	_ = b.sink.spool.Remove(b.Name)
	return nil
}

// append writes the batch to the mbox and syncs it. After an error the mbox is as it was.
func (b *batch) append(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return b.sink.osError("commit", err)
	}
	fi, err := b.locked.file.Stat()
	if err != nil {
		return b.sink.osError("stat", err)
	}
	if fi.Size() != b.locked.size {
		// Writing now would overwrite the mail of another program.
		return &deliver.Error{
			Fault: deliver.FaultTemporary, Target: b.sink.path, Op: "append",
			Err:  errors.New("another program changed it while it was locked"),
			Hint: "let all programs that write to it use fcntl locks or the lock file " + b.path + ".lock",
		}
	}
	all := b.prepared.batchSpan()
	err = b.locked.writeSpan(ctx, b.File, all)
	if err == nil {
		err = b.locked.sync()
	}
	if err != nil {
		b.locked.undoWrite(all)
		return b.sink.osError("append", err)
	}
	return nil
}

// Abort implements deliver.Batch. An empty mbox that Prepare created stays, because
// another program may have opened it.
func (b *batch) Abort() error {
	b.unlock()
	return b.Batch.Abort()
}

func (b *batch) unlock() {
	if b.locked != nil {
		b.locked.unlock()
		b.locked = nil
	}
}

// end returns where the next message begins in the spool file.
func (b *batch) end() int64 {
	if len(b.ends) == 0 {
		return messagesOffset
	}
	return b.ends[len(b.ends)-1]
}
