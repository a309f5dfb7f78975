package maildir

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// batch is some messages in tmp/.
type batch struct {
	s          *Sink
	accountTag string
	messages   []message
	syncsBegun int // the first so many messages have a sync begun or done
	syncsDone  int // the content of the first so many messages is durable
	prepared   bool
	err        error // why the batch can only be aborted
	syncErr    error // of a sync during Stage; Prepare returns it
}

// message is a message in tmp/.
type message struct {
	file  durable.File // nil once its content is durable
	tmp   string       // its path in tmp/
	final string       // its path in new/
}

// opWrite is the deliver.Error.Op of a message that could not be written.
const opWrite = "write a message to tmp/"

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if b.err != nil {
		return 0, b.err
	}
	if err := ctx.Err(); err != nil {
		return 0, b.s.osError("stage", err)
	}
	if b.accountTag == "" {
		b.accountTag = b.s.accountTag(mail.Account)
	}
	name := b.s.newName(b.accountTag)
	m := message{tmp: b.s.filePath("tmp", name)}
	var err error
	m.file, err = b.s.fs.OpenFile(m.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, b.s.mode)
	if err != nil {
		b.s.requireCheck()
		b.err = b.s.osError("create a file in tmp/", err)
		return 0, b.err
	}
	out := &sizeWriter{w: m.file}
	_, err, fileErr := deliver.Copy(ctx, b.s.dir, out, deliver.LFReader(body))
	if err == nil && fileErr == nil && b.s.mode != 0o600 { // the umask may have taken bits away
		fileErr = m.file.Chmod(b.s.mode)
	}
	if tooLarge, ok := deliver.TooLarge(b.s.dir, opWrite, fileErr); ok {
		err = tooLarge
	} else if fileErr != nil {
		b.err = b.s.osError(opWrite, fileErr)
		err = b.err
	}
	if err != nil {
		b.remove(m)
		return 0, err
	}
	m.final = b.s.filePath("new", finalName(name, out.size, out.wireSize()))
	b.messages = append(b.messages, m)
	if len(b.messages)%syncGroup == 0 && b.syncErr == nil {
		b.beginSyncs()
		// This closes older files, so that not too many are open. The end of ctx must
		// not affect messages that are complete, and an error is not this message's.
		b.syncErr = b.awaitSyncs(context.WithoutCancel(ctx), 4*syncGroup)
	}
	return deliver.Ticket(len(b.messages) - 1), nil
}

// syncGroup is after how many messages Stage begins to sync them, while it writes the
// next ones. A journaling file system commits a group together.
const syncGroup = 8

// beginSyncs begins the syncs that are not begun yet.
func (b *batch) beginSyncs() {
	for _, m := range b.messages[b.syncsBegun:] {
		m.file.BeginSync()
	}
	b.syncsBegun = len(b.messages)
}

// awaitSyncs makes the content of all messages durable except the last so many.
func (b *batch) awaitSyncs(ctx context.Context, except int) error {
	for ; b.syncsDone < len(b.messages)-except; b.syncsDone++ {
		if err := ctx.Err(); err != nil {
			return b.s.osError("sync", err)
		}
		m := &b.messages[b.syncsDone]
		err := m.file.Sync()
		// A network file system may report a failed write only at Close.
		err = cmp.Or(err, m.file.Close())
		m.file = nil
		if err != nil {
			return b.s.osError("sync a message in tmp/", err)
		}
	}
	return nil
}

// Prepare implements deliver.Batch.
func (b *batch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	var promises []deliver.Promise
	b.err = cmp.Or(b.err, b.syncErr)
	if b.err == nil {
		b.beginSyncs()
		b.err = b.awaitSyncs(ctx, 0)
	}
	if b.err == nil {
		b.err = b.s.syncFolders("tmp")
	}
	if b.err == nil {
		promises, b.err = b.promises()
	}
	if b.err != nil {
		return nil, b.err
	}
	b.prepared = true
	return promises, nil
}

// promises returns a promise for each message.
func (b *batch) promises() ([]deliver.Promise, error) {
	token, err := b.s.newToken()
	if err != nil {
		return nil, err
	}
	promises := make([]deliver.Promise, len(b.messages))
	for i, m := range b.messages {
		promises[i] = deliver.Promise{Ticket: deliver.Ticket(i), Token: token.forMessage(filepath.Base(m.final)), Where: m.final}
	}
	return promises, nil
}

// Commit implements deliver.Batch.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if b.err != nil {
		return b.err
	}
	if err := ctx.Err(); err != nil {
		return b.s.osError("commit", err)
	}
	if len(b.messages) == 0 {
		return nil
	}
	receipts := make([]deliver.Receipt, 0, len(b.messages))
	for i, m := range b.messages {
		r := deliver.Receipt{Ticket: deliver.Ticket(i), Where: m.final}
		err := b.s.publish(m.tmp, m.final)
		switch {
		case err == nil:
			receipts = append(receipts, r)
		case errors.Is(err, fs.ErrNotExist) && b.s.exists(m.tmp):
			return b.s.newMissingError(err)
		case errors.Is(err, fs.ErrNotExist):
			// Report it now, even if another message fails later: Settle would conclude
			// that the message was delivered and that its owner has moved it.
			r.Where, r.Err = "", b.s.newRemovedError(err)
			err = landed(r)
		}
		if err != nil {
			return err
		}
	}
	if err := b.s.syncMoves(); err != nil {
		return err
	}
	for _, r := range receipts {
		if err := landed(r); err != nil {
			return err
		}
	}
	return nil
}

// Abort implements deliver.Batch. After Prepare it leaves the files to Settle and
// Sweep: the promises may be in the caller's journal, even if the caller believes that
// they are not. If Abort removed the files, Settle would conclude that they were
// delivered.
func (b *batch) Abort() error {
	if b.prepared {
		return nil
	}
	var err error
	for _, m := range b.messages {
		err = cmp.Or(err, b.remove(m))
	}
	b.messages = nil
	b.err = cmp.Or(b.err, errAborted)
	return err
}

var errAborted = errors.New("the batch was aborted")

// remove removes a message from tmp/ that was not promised.
func (b *batch) remove(m message) error {
	if m.file != nil {
		m.file.Close() // the error does not matter any more
	}
	if err := b.s.fs.Remove(m.tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b.s.osError("remove a message from tmp/", err)
	}
	return nil
}
