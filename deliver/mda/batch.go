package mda

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"regexp"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// doneSuffix is the suffix of a file whose message the program has accepted.
const doneSuffix = "done"

// tokenPattern matches a token, which is the name of the message's file in the spool.
var tokenPattern = regexp.MustCompile(`^[0-9a-f]{16}-[0-9A-Z]+$`)

// batch is some files in the spool, one for each message.
type batch struct {
	spool.Batch
	sink     *Sink
	path     string // of the program
	messages []*message
}

// message is one file in the spool.
type message struct {
	file      durable.File // open until Prepare
	name      string
	args, env []string
}

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if err := b.Check(ctx, "stage"); err != nil {
		return 0, err
	}
	recipient, err := b.sink.recipientOf(mail)
	if err != nil {
		return 0, err
	}
	file, err := b.sink.spool.Create(mail.Account)
	if err != nil {
		return 0, b.Fail(err)
	}
	m := &message{file: file, name: filepath.Base(file.Name())}
	size, err, fileErr := deliver.Copy(ctx, b.sink.command.Name(), file, deliver.LFReader(body))
	switch {
	case fileErr != nil:
		err = b.sink.spool.MessageError(fileErr)
		if e, _ := errors.AsType[*deliver.Error](err); e.Fault != deliver.FaultMessage {
			_ = b.Fail(err)
		}
	case err == nil:
		m.args, m.env, err = b.sink.command.Fill(program.Values{
			User: mail.User, Account: mail.Account, Sender: mail.Sender,
			Recipient: recipient, Size: size, UID: mail.UID,
		})
	}
	if err != nil {
		_ = b.remove(m) // if it cannot be removed, Sweep removes it
		return 0, err
	}
	b.messages = append(b.messages, m)
	return deliver.Ticket(len(b.messages) - 1), nil
}

// Prepare implements deliver.Batch. It syncs the files so that a failed write is noticed
// before the program reads the message.
func (b *batch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if err := b.Check(ctx, "prepare"); err != nil {
		return nil, err
	}
	if len(b.messages) == 0 {
		return nil, nil
	}
	promises := make([]deliver.Promise, len(b.messages))
	for i, m := range b.messages {
		err := m.file.Sync()
		if cerr := m.file.Close(); err == nil {
			err = cerr
		}
		m.file = nil
		if err != nil {
			return nil, b.FailFile("sync a message", err)
		}
		promises[i] = deliver.Promise{Ticket: deliver.Ticket(i), Token: m.name}
	}
	if err := b.sink.spool.Sync(); err != nil {
		return nil, b.Fail(err)
	}
	return promises, nil
}

// Commit implements deliver.Batch. It runs the program for one message after the other.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if err := b.BeginCommit(); err != nil {
		return err
	}
	messages := b.messages
	b.messages = nil // for Abort
	timeouts := 0
	for i, m := range messages {
		where, err := b.run(ctx, m)
		if err == nil {
			// Before the receipt, which the caller may record much later.
			err = b.markDone(m)
			if lerr := landed(deliver.Receipt{Ticket: deliver.Ticket(i), Where: where}); lerr != nil || err != nil {
				return errors.Join(lerr, err)
			}
			timeouts = 0
			continue
		}
		refusal, ok := errors.AsType[*refusal](err)
		if !ok {
			return err
		}
		if err := landed(deliver.Receipt{Ticket: deliver.Ticket(i), Err: refusal.err}); err != nil {
			return err
		}
		// A single timeout may be due to the message. After two in a row the program
		// hangs, and each further message would take as much time again.
		if _, timeout := errors.AsType[*program.TimeoutError](err); !timeout {
			timeouts = 0
		} else if timeouts++; timeouts == 2 && i+1 < len(messages) {
			return refusal.err
		}
	}
	for _, m := range messages {
		// If it cannot be removed, Sweep removes it.
		_ = b.sink.spool.Remove(m.name)
	}
	return nil
}

// markDone durably records that the program has accepted a message.
func (b *batch) markDone(m *message) error {
	name, err := b.sink.spool.Rename(m.name, doneSuffix)
	if err != nil {
		return err
	}
	m.name = name
	return b.sink.spool.Sync()
}

// Abort implements deliver.Batch.
func (b *batch) Abort() error {
	err := b.Batch.Abort()
	for _, m := range b.messages {
		err = errors.Join(err, b.remove(m))
	}
	b.messages = nil
	return err
}

// remove removes the file of a message.
func (b *batch) remove(m *message) error {
	if m.file != nil {
		_ = m.file.Close()
		m.file = nil
	}
	return b.sink.spool.Remove(m.name)
}
