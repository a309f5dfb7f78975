// Package discard is a sink that reads messages and drops them, for tests, and to empty a
// maildrop on purpose. The messages are deleted from the server, and no copy is kept.
package discard

import (
	"context"
	"crypto/rand"
	"io"
	"strings"

	"github.com/mailhaul/mailhaul/deliver"
)

// target is the Profile.Target of the sink.
const target = "discard"

// Sink drops messages. It implements deliver.Sink.
type Sink struct{}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink. Since it deletes mail, the user must confirm that: unless yesDelete is
// true, the error is a *deliver.Error with FaultOperator.
func New(yesDelete bool) (*Sink, error) {
	if !yesDelete {
		return nil, &deliver.Error{
			Fault: deliver.FaultOperator, Target: target, Op: "it deletes mail for good",
			Hint: "say yes_delete: true if that is what you want",
		}
	}
	return &Sink{}, nil
}

// Profile implements deliver.Sink.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "discard", Target: target, Guarantee: deliver.ExactlyOnce}
}

// Begin implements deliver.Sink.
func (s *Sink) Begin(ctx context.Context) (deliver.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, temporaryError("begin", err)
	}
	return &batch{}, nil
}

// tokenPrefix is what the tokens of this sink begin with.
const tokenPrefix = "discard:"

// Settle implements deliver.Sink. All messages with a promise have landed: each was read to
// its end, and nothing more is to be done with it.
func (s *Sink) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, temporaryError("settle", err)
	}
	if s.Made(token) {
		return deliver.Landed, nil
	}
	return deliver.Unknown, nil
}

// Made implements deliver.Sink. All sinks of this package have the same destination.
func (s *Sink) Made(token string) bool { return strings.HasPrefix(token, tokenPrefix) }

// Sweep implements deliver.Sink. There is nothing to sweep.
func (s *Sink) Sweep(ctx context.Context, _ string) error {
	if err := ctx.Err(); err != nil {
		return temporaryError("sweep", err)
	}
	return nil
}

// Close implements deliver.Sink. There is nothing to close.
func (s *Sink) Close() error { return nil }

// batch counts the messages that were dropped.
type batch struct{ messages deliver.Ticket }

// Stage implements deliver.Batch.
func (b *batch) Stage(ctx context.Context, _ deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return 0, temporaryError("stage", err)
	}
	if _, err, _ := deliver.Copy(ctx, target, io.Discard, body); err != nil {
		return 0, err
	}
	b.messages++
	return b.messages - 1, nil
}

// Prepare implements deliver.Batch.
func (b *batch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if err := ctx.Err(); err != nil {
		return nil, temporaryError("prepare", err)
	}
	promises := make([]deliver.Promise, b.messages)
	for i := range promises {
		promises[i] = deliver.Promise{Ticket: deliver.Ticket(i), Token: tokenPrefix + rand.Text()}
	}
	return promises, nil
}

// Commit implements deliver.Batch.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if err := ctx.Err(); err != nil {
		return temporaryError("commit", err)
	}
	for i := range b.messages {
		if err := landed(deliver.Receipt{Ticket: i, Where: target}); err != nil {
			return err
		}
	}
	return nil
}

// Abort implements deliver.Batch.
func (b *batch) Abort() error { return nil }

// temporaryError returns an error of a step that may succeed later.
func temporaryError(op string, err error) error {
	return &deliver.Error{Fault: deliver.FaultTemporary, Target: target, Op: op, Err: err}
}
