package pop3proto

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"strconv"
	"time"
)

// DeleteAndQuit marks the messages with these numbers for deletion (DELE, RFC 1939
// §5), ends the session with QUIT and closes the connection, whatever the outcome. If
// the server offers PIPELINING, it sends QUIT with the last DELE.
//
// marked are the numbers that the server marked. It skips those that the server
// refuses to mark; refused is the *ReplyError of the first. The deletions are real
// only if err is nil: the server replied to QUIT with +OK and, if it had refused any
// DELE, sent nothing after that.
func (c *Client) DeleteAndQuit(ctx context.Context, nums iter.Seq[int]) (marked []int, refused, err error) {
	defer c.Close()
	end, err := c.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	marked, refused, err = c.deleteThenSendQuit(nums)
	if err != nil {
		return marked, nil, err
	}
	if _, err := c.readReply(verbQuit); err != nil {
		return marked, refused, err
	}
	if refused != nil {
		if err := c.checkLastReply(); err != nil {
			return marked, refused, err
		}
	}
	c.closeAfterQuit()
	return marked, refused, nil
}

// deleteThenSendQuit sends DELE for each number, reads the replies, and sends QUIT
// with the last DELE or after it. It leaves the reply to QUIT unread.
func (c *Client) deleteThenSendQuit(nums iter.Seq[int]) (marked []int, refused, err error) {
	c.inLoop = true // nums must not run commands
	defer func() { c.inLoop = false }()

	entries := func(yield func(Entry) bool) {
		for n := range nums {
			if !yield(Entry{Num: n}) {
				return
			}
		}
	}
	p, stop := c.newPipeline("DELE", entries, func(e Entry) string { return "DELE " + strconv.Itoa(e.Num) })
	defer stop()
	p.trailer, p.maxOctets = verbQuit, maxDeleteOctets
	for {
		e, ok, err := p.next()
		if err != nil || !ok {
			return marked, refused, err
		}
		_, err = c.readReply(p.verb)
		switch {
		case err == nil:
			marked = append(marked, e.Num)
		case errors.Is(err, ErrBroken):
			return marked, refused, err
		default:
			refused = cmp.Or(refused, err)
		}
	}
}

// maxHangUpWait limits the wait for the server to hang up after QUIT.
const maxHangUpWait = 5 * time.Second

// checkLastReply makes sure that nothing follows the reply to QUIT. If something
// does, an earlier reply was one too many, and what was read as the reply to QUIT
// belongs to a command before. A server that sends nothing and does not hang up
// passes.
func (c *Client) checkLastReply() error {
	c.w.timeout = min(c.w.timeout, maxHangUpWait)
	if len(c.w.buffered()) == 0 && c.w.fill() != nil {
		c.w.err = nil // closeAfterQuit sets the error
		return nil
	}
	return c.w.failSyntax(verbQuit, "nothing after the reply", c.w.buffered())
}
