package imap

import (
	"bufio"
	"context"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// batch is a spool file. All messages belong to one account.
type batch struct {
	spool.Batch
	sink     *Sink
	messages []message
}

// message is size octets from offset on in the spool file.
type message struct {
	offset, size int64
	sum          string    // the digest of its first headLen octets
	id           string    // its Message-ID
	date         time.Time // the INTERNALDATE; zero leaves it to the server
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if err := b.Check(ctx, "stage"); err != nil {
		return 0, err
	}
	if err := b.Open(mail.Account); err != nil {
		return 0, err
	}
	m := message{date: internalDate(mail)}
	if n := len(b.messages); n > 0 {
		last := b.messages[n-1]
		m.offset = last.offset + last.size
	}
	out := &repairer{w: bufio.NewWriterSize(io.NewOffsetWriter(b.File, m.offset), 32<<10)}
	// An error of the spool stays until Finish.
	if _, err, _ := deliver.Copy(ctx, b.sink.target, out, body); err != nil {
		// The next message overwrites what was written. If there is none, it is
		// after the end of the last message and is not sent.
		return 0, err
	}
	if err := out.Finish(); err != nil {
		return 0, b.FailFile("write a batch", err)
	}
	m.size, m.sum, m.id = out.size, digest(out.head), messageID(out.head)
	b.messages = append(b.messages, m)
	return deliver.Ticket(len(b.messages) - 1), nil
}

// internalDate returns the INTERNALDATE, by which mail programs sort: the message's own
// date, unless that is later than its arrival or before 1970, which some servers cannot
// store. It is in UTC, since real messages have invalid time zones.
func internalDate(mail deliver.Mail) time.Time {
	date := mail.Date.UTC()
	if date.After(mail.Arrived) || date.Unix() <= 0 {
		return mail.Arrived.UTC()
	}
	return date
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
	if err := b.sink.spool.Sync(); err != nil {
		return nil, b.Fail(err)
	}
	ses, leave, err := b.sink.acquireSession(ctx, false)
	if err != nil {
		return nil, b.Fail(err)
	}
	defer leave()
	if ses.hidesUIDs || !ses.caps.Has(imap.CapUIDPlus) {
		// The server did not tell the UIDs of the previous batch.
		if err := ses.refreshFolder(); err != nil {
			return nil, b.Fail(err)
		}
	}
	return b.promises(ses), nil
}

// promises returns the promises of the messages, for the present state of the folder.
func (b *batch) promises(ses *session) []deliver.Promise {
	// Messages with the same size and sum look the same to Settle.
	type sizeAndSum struct {
		size int64
		sum  string
	}
	twins := make(map[sizeAndSum]int)
	promises := make([]deliver.Promise, len(b.messages))
	for n, m := range b.messages {
		key := sizeAndSum{m.size, m.sum}
		promises[n] = deliver.Promise{Ticket: deliver.Ticket(n), Token: token{
			Server: b.sink.accountDigest(), Folder: b.sink.folder,
			Validity: ses.validity, Next: ses.next,
			Size: m.size, Sum: m.sum, Twin: twins[key], ID: m.id, Spool: b.Name,
		}.String()}
		twins[key]++
	}
	return promises
}
