package pop3proto

import (
	"context"
	"errors"
	"iter"
	"strconv"
)

// Retrieve downloads the messages that want yields, in that order, with RETR (RFC
// 1939 §5). If the server offers PIPELINING, the next messages are requested while
// one is read.
//
// Retrieve pulls entries from want when it sends requests, ahead of the messages
// that it yields, and requests each entry that it has pulled. When want ends, the
// loop ends after the last message requested, and no reply is left unread.
//
// A message is valid until the next turn of the loop, which skips what has not been
// read of it. The loop must not call any other method but Close. If the error is a
// *ReplyError, the server refused that message, and the loop goes on. Any other error
// ends the loop: one that matches ErrBroken, the error of a ctx that had already
// ended, or that of a loop inside another. Its message is the one whose reply failed, or
// one without an Entry if no message was due; its Read returns the same error. It may
// have been yielded before, and read in part.
//
// If the loop is left early, the next command first reads and discards the replies
// that are still to come. Close does not.
func (c *Client) Retrieve(ctx context.Context, want iter.Seq[Entry]) iter.Seq2[*Message, error] {
	return c.messages(ctx, "RETR", want, func(e Entry) string {
		return "RETR " + strconv.Itoa(e.Num)
	})
}

// Top is like Retrieve, but downloads only the header of each message and the first
// lines of its body (RFC 1939 §7). TOP is optional: the server may refuse it.
func (c *Client) Top(ctx context.Context, want iter.Seq[Entry], lines int) iter.Seq2[*Message, error] {
	return c.messages(ctx, "TOP", want, func(e Entry) string {
		return "TOP " + strconv.Itoa(e.Num) + " " + strconv.Itoa(max(lines, 0))
	})
}

// messages runs verb for the entries of want, and yields each reply as a Message.
func (c *Client) messages(ctx context.Context, verb string, want iter.Seq[Entry], format func(Entry) string) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		end, err := c.begin(ctx)
		if err != nil {
			yield(&Message{err: err}, err)
			return
		}
		defer end()
		c.inLoop = true
		defer func() { c.inLoop = false }()
		p, stop := c.newPipeline(verb, want, format)
		defer stop()
		p.addSTAT = c.hasStat && c.window() > 1 // for InStep
		c.unfinished = p
		for {
			e, ok, err := p.next()
			if err == nil && !ok {
				c.unfinished = nil
				if err := p.readTrailer(); err != nil {
					yield(&Message{err: err}, err)
				}
				return
			}
			if err == nil {
				err = p.readStatus()
			}
			m := &Message{Entry: e, body: p.body, err: err}
			if !m.lend(yield, err) || errors.Is(err, ErrBroken) {
				return
			}
			if err := p.skipBody(); err != nil {
				m.err = err
				m.lend(yield, err)
				return
			}
		}
	}
}
