package fetch

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// fetch downloads messages into a sink and commits them, batch by batch. The
// next batch comes in while the last one is committed: at most two exist.
// limit is the size above which a message is refused; 0 is none.
func (s *session) fetch(ctx context.Context, target Target, wants []Want, limit int64) error {
	if len(wants) == 0 || s.opts.draining() {
		return nil
	}
	// What has come in whole is committed even if time runs out.
	commitCtx, stop := outliveBudget(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	c := &committer{account: s.Name, target: target, journal: s.opts.State, now: s.opts.now, report: s.opts.report}
	full := make(chan *batch, 1)
	done := make(chan error, 1)
	go func() {
		var failed error
		for b := range full {
			if failed != nil {
				b.Abort()
			} else if failed = c.commit(commitCtx, b); failed != nil {
				cancel(failed)
			}
		}
		done <- failed
	}()
	d := &download{session: s, target: target, limit: limit, full: full, sums: newSums(), head: bufio.NewReaderSize(nil, headSize)}
	err := d.run(ctx, wants)
	close(full)
	if failed := <-done; failed != nil {
		err = failed
	}
	for _, o := range c.outcomes {
		if tallyErr := s.tally(ctx, target, o); tallyErr != nil && err == nil {
			err = tallyErr
		}
	}
	return err
}

// tally books what became of a message that was committed.
func (s *session) tally(ctx context.Context, target Target, o outcome) error {
	if o.err != nil {
		return s.reject(context.WithoutCancel(ctx), target, o.want, o.err)
	}
	s.summary.Fetched++
	s.summary.Bytes += o.octets
	if s.due(s.opts.now().Unix()) {
		s.delete = append(s.delete, Listed{o.want.Num, o.want.Key})
	}
	return nil
}

// download is the half of a fetch that owns the connection.
type download struct {
	*session
	target Target
	limit  int64
	full   chan<- *batch

	batch *batch // being staged
	sums  *sums
	head  *bufio.Reader
}

func (d *download) run(ctx context.Context, wants []Want) error {
	// A sink that cannot be used is found before anything is downloaded.
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer func() {
		if d.batch != nil {
			d.batch.Abort()
		}
	}()
	for m, err := range d.client.Retrieve(ctx, d.entries(wants)) {
		w := wants[0]
		wants = wants[1:]
		if err != nil && !isReply(err) {
			return d.cut(ctx, w, err)
		}
		if err != nil {
			// An -ERR to RETR is about this message.
			if err := d.refuse(ctx, w, err); err != nil {
				return err
			}
			continue
		}
		b := &body{r: m, sums: d.sums, limit: d.limit}
		if err := d.stage(ctx, w, b); err != nil {
			if ctx.Err() != nil || b.err != nil && b.err != io.EOF {
				return d.cut(ctx, w, cmp.Or(b.err, err))
			}
			return err
		}
		if d.batch.full(d.target.Sink.Profile(), d.opts.now()) {
			if err := d.hand(); err != nil {
				return err
			}
			if err := d.begin(ctx); err != nil {
				return err
			}
		}
	}
	return d.hand()
}

// cut handles a connection that died while w was on its way. What has come in
// whole is committed.
func (d *download) cut(ctx context.Context, w Want, err error) error {
	return errors.Join(d.session.cut(ctx, w, err), d.hand())
}

// cut handles a connection that died, or a budget that ran out, while w was on
// its way.
func (s *session) cut(ctx context.Context, w Want, err error) error {
	if ctx.Err() == nil {
		err = s.broken(err)
		return errors.Join(&cutError{err}, s.suspect(ctx, w, err))
	}
	err = context.Cause(ctx)
	if _, spent := errors.AsType[errBudget](err); spent {
		// A message that trickles in would hold up all others for ever.
		return errors.Join(err, s.suspect(context.WithoutCancel(ctx), w, err))
	}
	return err
}

func (d *download) begin(ctx context.Context) error {
	b, err := d.target.Sink.Begin(ctx)
	if err != nil {
		return err
	}
	d.batch = &batch{Batch: b, begun: d.opts.now()}
	return nil
}

// hand gives the batch to the committer.
func (d *download) hand() error {
	b := d.batch
	d.batch = nil
	if b == nil || len(b.items) == 0 {
		if b != nil {
			b.Abort()
		}
		return nil
	}
	d.full <- b
	return nil
}

// stage streams one message into the batch. A message that is refused is no
// error.
func (d *download) stage(ctx context.Context, w Want, b *body) error {
	d.sums.reset()
	mail, message := d.compose(w, b)
	_, err := d.batch.Stage(ctx, mail, message)
	switch {
	case errors.Is(b.err, errTooLarge):
		return d.reject(ctx, d.target, w, b.err)
	case err == nil && b.err != io.EOF:
		return errors.New("the sink took a message without reading it to its end")
	case faultOf(err) == deliver.FaultMessage:
		return d.reject(ctx, d.target, w, err)
	case err != nil:
		return err
	}
	it := item{want: w, octets: d.sums.octets, header: d.sums.header.sum(), content: d.sums.contentSum()}
	if it.want.Key == "" {
		it.want.Key = d.unnamedKey(it.content)
	}
	d.batch.items = append(d.batch.items, it)
	d.batch.bytes += it.octets
	d.opts.report(Downloaded{Account: d.Name, UID: w.UID, Octets: it.octets})
	return nil
}

// unnamedKey returns a key for a message that was downloaded before anything
// was known to tell it by. Copies of one message have a key each.
func (s *session) unnamedKey(content state.Sum) string {
	if s.unnamed == nil {
		s.unnamed = map[string]bool{}
		for _, r := range s.rows {
			if strings.HasPrefix(r.UID, "\x00") {
				s.unnamed[r.UID] = true
			}
		}
	}
	key := "\x00" + string(content[:])
	for s.unnamed[key] {
		key += "+"
	}
	s.unnamed[key] = true
	return key
}

// reject handles a message that a sink refuses: the quarantine, if there is
// one and it was not the one that refused, gets it next.
func (s *session) reject(ctx context.Context, target Target, w Want, err error) error {
	if s.Quarantine != nil && target != *s.Quarantine {
		s.rejects = append(s.rejects, w)
		return nil
	}
	return s.refuse(ctx, w, err)
}

// refuse records that a message stays on the server for now. One that has
// nothing to remember it by is tried again at the next poll.
func (s *session) refuse(ctx context.Context, w Want, err error) error {
	next := s.opts.now()
	if w.Key != "" {
		next = next.Add(pause(w.tries() + 1))
	}
	s.summary.Refused++
	s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: err.Error(), NextTry: next})
	if w.Key == "" {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: next.Unix(), Reason: err.Error(),
	}})
}

// suspect records that a poll or its connection ended over a message. Lines
// drop for any reason, so the first time it is only put behind all others; if
// it happens again, the message is left alone like one that was refused.
func (s *session) suspect(ctx context.Context, w Want, err error) error {
	err = fmt.Errorf("it did not come in whole: %w", err)
	if w.tries() > 0 {
		return s.refuse(ctx, w, err)
	}
	if w.Key == "" {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: s.opts.now().Unix(), Reason: err.Error(),
	}})
}
