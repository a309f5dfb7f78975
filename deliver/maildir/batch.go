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

type batch struct {
	s          *Sink
	accountTag string // of its account
	messages   []message
	syncsBegun int // how many of them are being synced, or were
	syncsDone  int // how many of them are durable, but for their names
	prepared   bool
	err        error // what broke the batch
	syncErr    error // what will break it in Prepare
}

// message is a message in tmp/.
type message struct {
	file  durable.File // nil once it is durable
	tmp   string       // its path in tmp/
	final string       // its path in new/
}

// opWrite is what failed if a message could not be kept.
const opWrite = "write a message to tmp/"

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
		// Else too many would be open. What has come in whole outlives ctx, and
		// an error is none of this message's.
		b.syncErr = b.awaitSyncs(context.WithoutCancel(ctx), 4*syncGroup)
	}
	return deliver.Ticket(len(b.messages) - 1), nil
}

// syncGroup is how many files are begun to be synced at once, while the next ones
// come in: a journaling file system commits them together.
const syncGroup = 8

// beginSyncs begins to sync what is not being synced yet.
func (b *batch) beginSyncs() {
	for _, m := range b.messages[b.syncsBegun:] {
		m.file.BeginSync()
	}
	b.syncsBegun = len(b.messages)
}

// awaitSyncs makes the files durable, all but the last so many.
func (b *batch) awaitSyncs(ctx context.Context, but int) error {
	for ; b.syncsDone < len(b.messages)-but; b.syncsDone++ {
		if err := ctx.Err(); err != nil {
			return b.s.osError("sync", err)
		}
		m := &b.messages[b.syncsDone]
		err := m.file.Sync()
		// A network file system may tell only here that a write failed.
		err = cmp.Or(err, m.file.Close())
		m.file = nil
		if err != nil {
			return b.s.osError("sync a message in tmp/", err)
		}
	}
	return nil
}

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
			// It must be told now, whatever becomes of the others: Settle would
			// take the message for delivered and moved by its owner.
			r.Where, r.Err = "", &deliver.Error{
				Fault: deliver.FaultTemporary, Target: b.s.dir, Op: "move a message from tmp/ to new/", Err: errors.Unwrap(err),
				Hint: "a program that cleans tmp/ has removed it: let it spare what is younger than 36 hours; the message is fetched again",
			}
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

// Abort removes what was staged, unless it has been promised. The promise may
// be in the caller's journal by now, even if the caller thinks that it is not;
// then Settle finishes the delivery, and otherwise Sweep removes the files. If
// they were removed here, Settle would take them for delivered.
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

// remove removes a message that has not been promised.
func (b *batch) remove(m message) error {
	if m.file != nil {
		m.file.Close() // what it held is of no interest any more
	}
	if err := b.s.fs.Remove(m.tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b.s.osError("remove a message from tmp/", err)
	}
	return nil
}
