package pop3proto

import (
	"context"
	"errors"
	"iter"
	"strconv"
)

// Retrieve fetches the messages that want yields, with RETR (RFC 1939 §5), in
// that order. Where the server offers PIPELINING, requests for the next
// messages are under way while one is read.
//
// want is pulled as requests leave, a window ahead of the messages: what was
// pulled is asked for. A want that ends stops the retrieval without anything
// left unread.
//
// Each message is lent until the next turn of the loop; what was not read of
// it is read then and dropped. Inside the loop no other method but Close may
// be called. With an error that is a *ReplyError, the server refused that one
// message, and the loop goes on. Any other error ends the loop: an ErrBroken,
// that of a ctx which had ended before the start, or that of a command within
// another loop. Its message is the one whose reply failed, and its Read returns
// the same error; it may have been lent before, and read in part.
//
// A loop that is left early leaves replies on their way. The next command
// reads and drops them first; Close does not.
func (c *Client) Retrieve(ctx context.Context, want iter.Seq[Entry]) iter.Seq2[*Message, error] {
	return c.messages(ctx, "RETR", want, func(e Entry) string {
		return "RETR " + strconv.Itoa(e.Num)
	})
}

// Top is Retrieve for the header of each message and the first lines of its
// body (RFC 1939 §7). Servers need not know TOP.
func (c *Client) Top(ctx context.Context, want iter.Seq[Entry], lines int) iter.Seq2[*Message, error] {
	return c.messages(ctx, "TOP", want, func(e Entry) string {
		return "TOP " + strconv.Itoa(e.Num) + " " + strconv.Itoa(max(lines, 0))
	})
}

func (c *Client) messages(ctx context.Context, verb string, want iter.Seq[Entry], line func(Entry) string) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		done, err := c.start(ctx)
		if err != nil {
			yield(&Message{err: err}, err)
			return
		}
		defer done()
		c.looping = true
		defer func() { c.looping = false }()
		f, stop := c.fly(verb, want, line)
		defer stop()
		f.stat = c.counted && c.window() > 1 // see InStep
		c.left = f
		for {
			e, ok, err := f.turn()
			if err == nil && !ok {
				c.left = nil
				if err := f.end(); err != nil {
					yield(&Message{err: err}, err)
				}
				return
			}
			if err == nil {
				err = f.open()
			}
			m := &Message{Entry: e, body: f.body, err: err}
			if !m.lend(yield, err) || errors.Is(err, ErrBroken) {
				return
			}
			if err := f.finish(); err != nil {
				m.err = err
				m.lend(yield, err)
				return
			}
		}
	}
}
