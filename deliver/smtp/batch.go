package smtp

import (
	"bufio"
	"context"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

const chunk = 64 << 10

// batch is one spool file. All its messages are of one account.
type batch struct {
	spool.Batch
	sink     *Sink
	ledger   *ledger // nil until there is a message
	messages []message
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
	if err := b.Ready(ctx, "stage"); err != nil {
		return 0, err
	}
	to, err := b.sink.recipients(mail)
	if err != nil {
		return 0, err
	}
	if err := b.Open(mail.Account); err != nil {
		return 0, err
	}
	b.ledger = b.sink.ledger(mail.Account)
	m := message{sender: b.sink.sender(mail), to: to}
	if n := len(b.messages); n > 0 {
		m.offset = b.messages[n-1].offset + b.messages[n-1].size
	}
	sum, err := b.copy(ctx, &m, body, mail.Added)
	if err != nil {
		return 0, b.TakeBack(m.offset, err)
	}
	m.key = keyOf(mail.Account, mail.UID, sum, to)
	b.messages = append(b.messages, m)
	return deliver.Ticket(len(b.messages) - 1), nil
}

// copy writes a message to the spool file, repaired, and returns the sum of
// what the server sent: what follows the added octets, which tell the time of
// the download and differ each time.
func (b *batch) copy(ctx context.Context, m *message, body io.Reader, added int) (sum []byte, err error) {
	buffered := bufio.NewWriterSize(io.NewOffsetWriter(b.File, m.offset), chunk)
	out, content := &repairer{w: buffered}, &contentSum{sha256.New(), added}
	// An error of the spool stays until Flush.
	if _, err, _ := deliver.Copy(ctx, b.sink.o.Server.Addr, io.MultiWriter(out, content), body); err != nil {
		return nil, err
	}
	_ = out.finish()
	if err := buffered.Flush(); err != nil {
		return nil, b.Fault("write a batch", err)
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
	if err := b.Ready(ctx, "prepare"); err != nil {
		return nil, err
	}
	if len(b.messages) == 0 {
		return nil, nil
	}
	if err := b.File.Sync(); err != nil {
		return nil, b.Fault("sync a batch", err)
	}
	if err := b.askLedger(); err != nil {
		return nil, b.Fault("keep the ledger", err)
	}
	if err := b.sink.o.Spool.Sync(); err != nil {
		return nil, b.Break(err)
	}
	promises := make([]deliver.Promise, len(b.messages))
	for n, m := range b.messages {
		t := token{Ledger: b.ledger.suffix, Key: m.key, Spool: b.Name, N: n}
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
