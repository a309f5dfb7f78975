package fetch_test

import (
	"context"
	"errors"
	"io"

	"github.com/mailhaul/mailhaul/deliver"
)

// The sinks that several tests share. Each wraps a working sink and has a part of it
// fail, or do something else.

// hooks replace methods of a batch. A hook that is nil leaves the method as it is; the
// others are given the batch and may call it.
type hooks struct {
	stage   func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error)
	prepare func(ctx context.Context, b deliver.Batch) ([]deliver.Promise, error)
	commit  func(ctx context.Context, b deliver.Batch, landed func(deliver.Receipt) error) error
}

// hooked returns sink with h in each of its batches.
func hooked(sink deliver.Sink, h hooks) deliver.Sink {
	return wrapBatches(sink, func(b deliver.Batch) deliver.Batch { return hookedBatch{b, h} })
}

type hookedBatch struct {
	deliver.Batch
	hooks hooks
}

func (b hookedBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if b.hooks.stage == nil {
		return b.Batch.Stage(ctx, mail, body)
	}
	return b.hooks.stage(ctx, b.Batch, mail, body)
}

func (b hookedBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if b.hooks.prepare == nil {
		return b.Batch.Prepare(ctx)
	}
	return b.hooks.prepare(ctx, b.Batch)
}

func (b hookedBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if b.hooks.commit == nil {
		return b.Batch.Commit(ctx, landed)
	}
	return b.hooks.commit(ctx, b.Batch, landed)
}

// wrapBatches returns sink with each of its batches wrapped.
func wrapBatches(sink deliver.Sink, wrap func(deliver.Batch) deliver.Batch) deliver.Sink {
	return &batchWrapper{sink, wrap}
}

// batchWrapper is used by its pointer: package fetch compares sinks, and a func cannot be
// compared.
type batchWrapper struct {
	deliver.Sink
	wrap func(deliver.Batch) deliver.Batch
}

func (s *batchWrapper) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return s.wrap(b), err
}

// oneByOne is a sink with batches of one message.
type oneByOne struct{ deliver.Sink }

func (s oneByOne) Profile() deliver.Profile {
	p := s.Sink.Profile()
	p.MaxMessages = 1
	return p
}

var errNoAnswer = &deliver.Error{Fault: deliver.FaultTemporary, Target: "silent", Op: "answer", Err: errors.New("no answer")}

// unanswering is a sink that fails in Commit, before anything is visible, and cannot
// settle its promises later.
type unanswering struct{ deliver.Sink }

func (s unanswering) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return unansweringBatch{b}, err
}

func (unanswering) Settle(context.Context, string) (deliver.Verdict, error) { return 0, errNoAnswer }

type unansweringBatch struct{ deliver.Batch }

func (unansweringBatch) Commit(context.Context, func(deliver.Receipt) error) error {
	return errNoAnswer
}

// unreported returns a sink whose batches are committed and report nothing, as if the
// process were killed right then.
func unreported(sink deliver.Sink) deliver.Sink {
	return hooked(sink, hooks{commit: commitUnreported})
}

func commitUnreported(ctx context.Context, b deliver.Batch, _ func(deliver.Receipt) error) error {
	err := b.Commit(ctx, func(deliver.Receipt) error { return nil })
	return errors.Join(err, errNoAnswer)
}

// failPrepare returns a sink whose batches fail in Prepare. It counts how often.
func failPrepare(sink deliver.Sink, calls *int) deliver.Sink {
	return hooked(sink, hooks{prepare: func(context.Context, deliver.Batch) ([]deliver.Promise, error) {
		*calls++
		return nil, errNoAnswer
	}})
}

// unreachable is a sink that can neither begin a batch nor settle a promise. Each call
// returns another error.
type unreachable struct{ deliver.Sink }

func (unreachable) Begin(context.Context) (deliver.Batch, error) { return nil, noRoute() }

func (unreachable) Settle(context.Context, string) (deliver.Verdict, error) { return 0, noRoute() }

func noRoute() error {
	return &deliver.Error{Fault: deliver.FaultTemporary, Target: "far", Op: "connect", Err: errors.New("no route")}
}

// unusable is a sink that cannot begin a batch until a person has seen to it.
type unusable struct{ deliver.Sink }

func (unusable) Begin(context.Context) (deliver.Batch, error) {
	return nil, &deliver.Error{Fault: deliver.FaultOperator, Target: "gone", Op: "open", Err: errors.New("it is not there")}
}

// unsweepable is a sink whose Sweep fails until a person has seen to it.
type unsweepable struct{ deliver.Sink }

func (unsweepable) Sweep(context.Context, string) error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: "gone", Op: "look into it", Err: errors.New("it is not there")}
}
