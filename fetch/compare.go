package fetch

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// comparison is what session.compare learns while it downloads messages.
type comparison struct {
	*session
	learned state.Housekeeping
	// candidates are those of the plan that no message has matched yet, by their content.
	candidates map[state.Sum][]*state.Row
	// replaced holds the contents of rows whose keys other messages have now, by key.
	replaced map[string]state.Sum
}

// compare downloads messages that may have landed before, and returns those that did
// not. What it learns is recorded all at once, because the new unique-id of one message may
// be the old one of another.
func (s *session) compare(ctx context.Context, wants []Want) (different []Want, err error) {
	c := &comparison{session: s, candidates: map[state.Sum][]*state.Row{}, replaced: map[string]state.Sum{}}
	for i := range s.plan.Candidates {
		row := &s.plan.Candidates[i]
		c.candidates[row.Content] = append(c.candidates[row.Content], row)
	}
	different, err = c.run(ctx, wants)
	return different, cmp.Or(err, c.record(ctx, err))
}

// run downloads the messages, and returns those that did not land before.
func (c *comparison) run(ctx context.Context, wants []Want) (different []Want, err error) {
	next, received := 0, 0
	for m, err := range c.client.Retrieve(ctx, c.entries(wants)) {
		if next == len(wants) {
			return nil, c.lostBetweenMessages(ctx, c.asOutOfStep(err))
		}
		w := wants[next]
		next++
		c.unverified = c.pipelined
		if w.Key == "" {
			c.keyless++
		}
		if err != nil && !isReply(err) {
			return nil, c.lostDuringMessage(ctx, w, c.asOutOfStep(err))
		}
		if err != nil {
			c.doubtful = c.pipelined
			c.notGiven = append(c.notGiven, serverRefusal{w, err})
			continue
		}
		c.noteRetrieved(w)
		sums := newSums()
		sums.expectFormer(func(sum state.Sum) bool { return len(c.candidates[sum]) > 0 || w.Row != nil && w.Row.Content == sum })
		b := newBody(m, sums, 0, c.pipelined)
		b.meter = c.meter
		if err := b.readToEnd(); err != nil {
			return nil, c.lostDuringMessage(ctx, w, err)
		}
		c.checkSize(w, sums.octets)
		received++
		different = append(different, c.matchContent(w, sums.contentSum())...)
	}
	if received == len(wants) && c.plan.More == 0 { // else one of the others may be the stale row's
		c.forgetStale()
	}
	return different, c.verifyInStep(ctx)
}

// matchContent looks for the row that has the content of a message. It returns the message
// if it did not land before and is due.
func (c *comparison) matchContent(w Want, content state.Sum) (different []Want) {
	if w.Row != nil && w.Row.Content != content && !w.Row.Content.IsZero() {
		c.replaced[w.Key] = w.Row.Content
	}
	c.compared++
	rows := c.candidates[content]
	if len(rows) == 0 {
		fresh := Want{Entry: w.Entry, Key: w.Key, Header: w.Header}
		if w.Row != nil && w.Row.Content.IsZero() {
			fresh.Row = w.Row // it is about earlier attempts to fetch this very message
		}
		return []Want{fresh}
	}
	i := max(0, slices.IndexFunc(rows, func(r *state.Row) bool { return r.UID == w.Key }))
	row := rows[i]
	c.candidates[content] = slices.Delete(rows, i, i+1)
	return c.recognize(w, row)
}

// recognize notes that the message of row is still, or again, listed. If it never landed,
// it is returned once it is due for another attempt. A message that a sink has yet to
// answer for is left alone.
func (c *comparison) recognize(w Want, row *state.Row) (different []Want) {
	if c.openKeys[row.UID] {
		c.compared--
		c.alreadyHad++
		return nil
	}
	key := cmp.Or(w.Key, row.UID) // a message without any key gets the row's
	c.learned.Found = append(c.learned.Found, key)
	if key != row.UID {
		c.learned.Rekey = append(c.learned.Rekey, state.Rekey{From: row.UID, To: key})
	}
	landed := row.Phase == state.Landed || row.Phase == state.Deleted
	if row.Phase == state.Deleted {
		c.learned.Restored = append(c.learned.Restored, key)
	}
	pol := c.policy()
	switch {
	case landed && pol.isDue(row.Landed):
		c.toDelete = append(c.toDelete, Listed{w.Num, key})
		c.noteAlreadyHad(w)
	case landed, row.Phase == state.Adopted:
		c.noteAlreadyHad(w)
	case pol.isPaused(row):
		c.summary.Refused++
	default:
		different = []Want{{Entry: w.Entry, Key: key, Row: row}}
	}
	return different
}

// forgetStale forgets the plan's stale rows that no message has matched.
func (c *comparison) forgetStale() {
	for _, i := range c.plan.Stale {
		if row := &c.plan.Candidates[i]; slices.Contains(c.candidates[row.Content], row) {
			c.learned.Forget = append(c.learned.Forget, row.UID)
		}
	}
}

// record records what was learned. err is how run ended. If replies may have been out of
// step, nothing that was learned is believed; then the next session does not pipeline, so
// that it makes progress even on a line that always drops before the end.
func (c *comparison) record(ctx context.Context, err error) error {
	if c.doubtful || errors.Is(err, errOutOfStep) {
		c.noPipelining = true
		return nil
	}
	for _, k := range c.learned.Rekey {
		delete(c.replaced, k.From)
	}
	for key, content := range c.replaced {
		c.learned.Rekey = append(c.learned.Rekey, state.Rekey{From: key, To: c.plan.keys.next(content, c.rows)})
	}
	if err := c.opts.State.Keep(context.WithoutCancel(ctx), c.Name, c.opts.now().Unix(), c.learned); err != nil {
		return err
	}
	c.summary.Restored += len(c.learned.Restored)
	return nil
}
