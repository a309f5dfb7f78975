package discard_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/discard"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

func TestNew(t *testing.T) {
	s, err := discard.New(false)
	e, ok := errors.AsType[*deliver.Error](err)
	if s != nil || !ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Hint, "yes_delete") {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := discard.New(true); err != nil {
		t.Error(err)
	}
}

// TestSuite records the messages that the sink reads, which itself stores nothing, and shows
// those to the suite that the sink reports as landed.
func TestSuite(t *testing.T) {
	var w *record
	open := func(fsys durable.FS, dir string) (deliver.Sink, error) {
		// The first sink in a directory begins a new record.
		err := fsys.Mkdir(dir+"/seen", 0o700)
		if err == nil {
			w = &record{promised: make(map[string]string)}
		}
		s, nerr := discard.New(true)
		return &watched{s, w}, nerr
	}
	read := func(durable.FS, string) ([]string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return append([]string(nil), w.landed...), nil
	}
	delivertest.Run(t, delivertest.Suite{Open: open, Read: read})
}

// record holds the messages that the sinks in one directory have read.
type record struct {
	mu       sync.Mutex
	promised map[string]string // messages by their tokens
	landed   []string
}

// land moves a message from promised to landed.
func (r *record) land(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if message, ok := r.promised[token]; ok {
		r.landed = append(r.landed, message)
		delete(r.promised, token)
	}
}

type watched struct {
	deliver.Sink
	w *record
}

func (s *watched) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return &watchedBatch{Batch: b, w: s.w}, err
}

func (s *watched) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	v, err := s.Sink.Settle(ctx, token)
	if v == deliver.Landed && err == nil {
		s.w.land(token)
	}
	return v, err
}

type watchedBatch struct {
	deliver.Batch
	w        *record
	messages []string
	tokens   []string
}

func (b *watchedBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	var copied strings.Builder
	ticket, err := b.Batch.Stage(ctx, mail, io.TeeReader(body, &copied))
	if err == nil {
		b.messages = append(b.messages, strings.ReplaceAll(copied.String(), "\r\n", "\n"))
	}
	return ticket, err
}

func (b *watchedBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	promises, err := b.Batch.Prepare(ctx)
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	for _, p := range promises {
		b.w.promised[p.Token] = b.messages[p.Ticket]
		b.tokens = append(b.tokens, p.Token)
	}
	return promises, err
}

func (b *watchedBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	return b.Batch.Commit(ctx, func(r deliver.Receipt) error {
		b.w.land(b.tokens[r.Ticket])
		return landed(r)
	})
}
