package pop3proto

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"strconv"
	"time"
)

// DeleteAndQuit marks messages for deletion with DELE (RFC 1939 §5) and says
// QUIT, in one flight where the server offers PIPELINING. marked are those
// that the server marked. A message that it would not mark is passed over; refused
// is the *ReplyError of the first such. err is nil only if the server confirmed QUIT
// with +OK, and said nothing more where it had refused something: only then are the
// deletions of what it marked real. The connection is closed in any case.
func (c *Client) DeleteAndQuit(ctx context.Context, nums iter.Seq[int]) (marked []int, refused, err error) {
	defer c.Close()
	done, err := c.start(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	marked, refused = c.delete(nums)
	if errors.Is(refused, ErrBroken) {
		return marked, nil, refused
	}
	if _, err := c.reply(verbQuit); err != nil {
		return marked, refused, err
	}
	if refused != nil {
		if err := c.ends(); err != nil {
			return marked, refused, err
		}
	}
	c.bye()
	return marked, refused, nil
}

// farewell is how long a server is waited for to hang up.
const farewell = 5 * time.Second

// ends makes sure that the reply to QUIT is the last: if it is not, one too many
// came before it, and that was the reply to a command before. A server that does
// not hang up is none the worse for it.
func (c *Client) ends() error {
	c.w.timeout = min(c.w.timeout, farewell)
	if len(c.w.pending()) == 0 && c.w.fill() != nil {
		c.w.err = nil // it is bye that closes it
		return nil
	}
	return c.w.failSyntax(verbQuit, "nothing after the reply", c.w.pending())
}

// delete sends DELE for each number, and QUIT behind them, whose reply it leaves
// unread. refused may also be what broke the connection.
func (c *Client) delete(nums iter.Seq[int]) (marked []int, refused error) {
	c.looping = true // no command may come out of nums
	defer func() { c.looping = false }()

	entries := func(yield func(Entry) bool) {
		for n := range nums {
			if !yield(Entry{Num: n}) {
				return
			}
		}
	}
	f, stop := c.fly("DELE", entries, func(e Entry) string { return "DELE " + strconv.Itoa(e.Num) })
	f.last, f.room = verbQuit, maxDeletions
	defer stop()
	for {
		e, ok, err := f.turn()
		if err != nil {
			return marked, err
		}
		if !ok {
			return marked, refused
		}
		_, err = c.reply(f.verb)
		switch {
		case err == nil:
			marked = append(marked, e.Num)
		case errors.Is(err, ErrBroken):
			return marked, err
		default:
			refused = cmp.Or(refused, err)
		}
	}
}
