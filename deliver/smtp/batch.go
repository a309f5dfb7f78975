package smtp

import (
	"bufio"
	"context"
	"crypto/rand"
	"io"
	"slices"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

const chunkSize = 64 << 10

// batch is a spool file. All messages belong to one account.
type batch struct {
	spool.Batch
	sink     *Sink
	ledger   *ledger // nil until there is a message
	messages []message
}

// message is size octets from offset on in the spool file, as they are sent except for
// dot-stuffing.
type message struct {
	offset, size int64
	sender       string
	key, content string
	recipients   []string // all recipients
	pending      []string // those who do not have it yet
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if err := b.Check(ctx, "stage"); err != nil {
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
	m := message{sender: b.sink.sender(mail), recipients: to}
	if n := len(b.messages); n > 0 {
		m.offset = b.messages[n-1].offset + b.messages[n-1].size
	}
	if err := b.copy(ctx, &m, body); err != nil {
		return 0, b.TruncateTo(m.offset, err)
	}
	content := []byte(rand.Text()) // differs from that of every other message
	if mail.Content != nil {
		content = mail.Content()
	}
	m.key, m.content = keyOf(mail.UID, content), contentOf(content)
	b.messages = append(b.messages, m)
	return deliver.Ticket(len(b.messages) - 1), nil
}

// copy writes a message to the spool file, repaired.
func (b *batch) copy(ctx context.Context, m *message, body io.Reader) error {
	buffered := bufio.NewWriterSize(io.NewOffsetWriter(b.File, m.offset), chunkSize)
	out := &repairer{w: buffered}
	// An error of the spool stays until Flush.
	if _, err, _ := deliver.Copy(ctx, b.sink.o.Server.Addr, out, body); err != nil {
		return err
	}
	_ = out.finish()
	if err := buffered.Flush(); err != nil {
		return b.FailFile("write a batch", err)
	}
	m.size = out.size
	return nil
}

// Prepare implements deliver.Batch.
func (b *batch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if err := b.Check(ctx, "prepare"); err != nil {
		return nil, err
	}
	if len(b.messages) == 0 {
		return nil, nil
	}
	if err := b.File.Sync(); err != nil {
		return nil, b.FailFile("sync a batch", err)
	}
	if err := b.findPending(); err != nil {
		return nil, b.FailFile("keep the ledger", err)
	}
	if err := b.sink.o.Spool.Sync(); err != nil {
		return nil, b.Fail(err)
	}
	promises := make([]deliver.Promise, len(b.messages))
	for n, m := range b.messages {
		t := token{Ledger: b.ledger.suffix, Key: m.key, Spool: b.Name, N: n}
		if len(b.sink.to) == 0 {
			t.To = m.recipients
		}
		promises[n] = deliver.Promise{Ticket: deliver.Ticket(n), Token: t.String()}
	}
	return promises, nil
}

// findPending sets the pending recipients of each message. If all recipients have a message,
// the user wants it to be delivered again; the ledger forgets the first delivery, so that
// Settle does not mistake it for the second. If an earlier delivery was incomplete, there
// may be no pending recipient now, because the others are no longer configured.
func (b *batch) findPending() error {
	if err := b.ledger.create(); err != nil {
		return err
	}
	known, err := b.ledger.read()
	if err != nil {
		return err
	}
	for i := range b.messages {
		m := &b.messages[i]
		r, err := b.findRecord(m, known)
		if err != nil {
			return err
		}
		m.pending = subtract(m.recipients, r.delivered)
		switch {
		case r.pending == 0 && len(m.pending) == 0:
			m.pending = m.recipients
			err = b.ledger.forgetDelivered(m.key, m.pending)
		case r.pending > 0 && len(m.pending) > 0 && r.at < b.ledger.timeAgo(renewAge):
			err = b.ledger.recordDelivered(m, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// findRecord returns the record of a message. If there is none under its key, it looks for a
// message of the same content: some servers give all messages new unique-ids when one is
// deleted. Any such message outside this batch will do, since equal messages cannot be told
// apart by a recipient.
func (b *batch) findRecord(m *message, known map[string]record) (record, error) {
	if r := known[m.key]; r.pending > 0 || len(r.delivered) > 0 {
		return r, nil
	}
	for key, r := range known {
		if r.pending == 0 || len(r.delivered) == 0 || r.content != m.content ||
			slices.ContainsFunc(b.messages, func(o message) bool { return o.key == key }) {
			continue
		}
		delete(known, key)
		return r, b.ledger.moveRecord(m, key, r)
	}
	return record{}, nil
}
