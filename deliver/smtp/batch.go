package smtp

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

const chunk = 64 << 10

// batch is one spool file. All its messages are of one account.
type batch struct {
	sink *Sink
	// file and name are the spool file, nil and empty until there is a
	// message.
	file     durable.File
	name     string
	ledger   *ledger
	messages []message
	// broken is the error after which the batch can only be aborted.
	broken error
	done   bool
}

// message is one of a batch: size octets from offset on in the spool file, as
// they go over the wire but for the dots.
type message struct {
	offset, size int64
	sender       string
	key          string
	to           []string // all recipients
	rest         []string // those who do not have it yet
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if b.broken != nil {
		return 0, b.broken
	}
	if err := ctx.Err(); err != nil {
		return 0, b.sink.fail("stage", err)
	}
	to, err := b.sink.recipients(mail)
	if err != nil {
		return 0, err
	}
	if b.file == nil {
		file, err := b.sink.o.Spool.Create(mail.Account)
		if err != nil {
			return 0, b.fail(err)
		}
		b.file, b.name = file, filepath.Base(file.Name())
		b.ledger = b.sink.ledger(mail.Account)
	}
	m := message{sender: b.sink.sender(mail), to: to}
	if n := len(b.messages); n > 0 {
		m.offset = b.messages[n-1].offset + b.messages[n-1].size
	}
	sum, err := b.copy(ctx, &m, body, mail.Added)
	if err != nil {
		if terr := b.file.Truncate(m.offset); terr != nil && b.broken == nil {
			return 0, b.fail(errors.Join(err, b.sink.spoolError("write the spool", terr)))
		}
		return 0, err
	}
	m.key = keyOf(mail.Account, mail.UID, sum, to)
	b.messages = append(b.messages, m)
	return deliver.Ticket(len(b.messages) - 1), nil
}

// copy writes a message to the spool file, repaired, and returns the sum of
// what the server sent: what follows the added octets, which tell the time of
// the download and differ each time.
func (b *batch) copy(ctx context.Context, m *message, body io.Reader, added int) (sum []byte, err error) {
	buffered := bufio.NewWriterSize(io.NewOffsetWriter(b.file, m.offset), chunk)
	out, content := &repairer{w: buffered}, &contentSum{sha256.New(), added}
	// An error of the spool stays until Flush.
	if _, err, _ := deliver.Copy(ctx, b.sink.o.Server.Addr, io.MultiWriter(out, content), body); err != nil {
		return nil, err
	}
	_ = out.finish()
	if err := buffered.Flush(); err != nil {
		return nil, b.fail(b.sink.spoolError("write the spool", err))
	}
	m.size = out.size
	return content.Sum(nil), nil
}

// contentSum sums what follows the first skip octets that are written to it.
type contentSum struct {
	hash.Hash
	skip int
}

func (s *contentSum) Write(p []byte) (int, error) {
	ours := min(len(p), s.skip)
	s.skip -= ours
	_, err := s.Hash.Write(p[ours:])
	return len(p), err
}

// Prepare implements deliver.Batch.
func (b *batch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if b.broken != nil {
		return nil, b.broken
	}
	if err := ctx.Err(); err != nil {
		return nil, b.sink.fail("prepare", err)
	}
	if len(b.messages) == 0 {
		return nil, nil
	}
	if err := b.file.Sync(); err != nil {
		return nil, b.fail(b.sink.spoolError("sync the spool", err))
	}
	if err := b.askLedger(); err != nil {
		return nil, b.fail(b.sink.spoolError("keep the ledger", err))
	}
	if err := b.sink.o.Spool.Sync(); err != nil {
		return nil, b.fail(err)
	}
	promises := make([]deliver.Promise, len(b.messages))
	for n, m := range b.messages {
		t := token{Ledger: b.ledger.suffix, Key: m.key, Spool: b.name, N: n}
		if len(b.sink.to) == 0 {
			t.To = m.to
		}
		promises[n] = deliver.Promise{Ticket: deliver.Ticket(n), Token: t.String()}
	}
	return promises, nil
}

// askLedger finds out who already has which message. One that everybody has
// is wanted again, or it would not be here: it is forgotten, so that Settle
// cannot take the last time for this one.
func (b *batch) askLedger() error {
	if err := b.ledger.create(); err != nil {
		return err
	}
	taken, err := b.ledger.read()
	if err != nil {
		return err
	}
	for i := range b.messages {
		m := &b.messages[i]
		if m.rest = without(m.to, taken[m.key]); len(m.rest) > 0 {
			continue
		}
		m.rest = m.to
		if err := b.ledger.forget(m.key, m.rest); err != nil {
			return err
		}
	}
	return nil
}

// Abort implements deliver.Batch.
func (b *batch) Abort() error {
	if b.done {
		return nil
	}
	b.done = true
	if b.broken == nil {
		b.broken = errors.New("the batch was aborted")
	}
	return b.discard()
}

// discard removes the spool file.
func (b *batch) discard() error {
	if b.file == nil {
		return nil
	}
	_ = b.file.Close()
	return b.sink.o.Spool.Remove(b.name)
}

// fail remembers why the batch can only be aborted.
func (b *batch) fail(err error) error {
	b.broken = err
	return err
}
