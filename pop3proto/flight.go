package pop3proto

import (
	"errors"
	"io"
	"iter"
)

// firstBurst is how many commands leave before the first reply has shown
// that the server goes along. With few, it starts on them at once.
const firstBurst = 4

// flight keeps commands of one kind under way (RFC 2449 §6.6) and tells whose
// reply is next: replies come in the order of their commands.
type flight struct {
	c    *Client
	verb string
	line func(e Entry) string // the command, without CRLF

	next func() (Entry, bool)
	dry  bool // next has no more

	sent  []Entry // commands whose replies have not begun
	limit int     // how many those may be
	body  *dot    // the reply that has begun, if it is a body
}

// fly begins a flight of commands about the entries of want. stop releases
// want.
func (c *Client) fly(verb string, want iter.Seq[Entry], line func(Entry) string) (f *flight, stop func()) {
	next, stop := iter.Pull(want)
	return &flight{c: c, verb: verb, line: line, next: next, limit: min(firstBurst, c.window())}, stop
}

// turn returns the entry whose reply is to be read next, and false when there
// is none left. It sends more commands when few are under way.
func (f *flight) turn() (e Entry, ok bool, err error) {
	if !f.dry && len(f.sent) <= f.limit/4 {
		err = f.refill()
	}
	if len(f.sent) == 0 {
		return Entry{}, false, err
	}
	e = f.sent[0]
	f.sent = f.sent[1:]
	f.limit = f.c.window()
	return e, true, err
}

func (f *flight) refill() error {
	if len(f.sent) == 0 {
		if err := f.c.idle(f.verb); err != nil {
			return err
		}
	}
	for len(f.sent) < f.limit && !f.dry {
		e, ok := f.next()
		if !ok {
			f.dry = true
			break
		}
		f.sent = append(f.sent, e)
		f.c.w.put(f.line(e))
	}
	return f.c.w.flush()
}

// open reads the status line of a reply. If the server refused the command
// the error is a *ReplyError; else f.body is the body.
func (f *flight) open() error {
	if _, err := f.c.reply(f.verb); err != nil {
		return err
	}
	f.body = newDot(&f.c.w)
	return nil
}

// finish reads what is left of the body.
func (f *flight) finish() error {
	if f.body == nil {
		return nil
	}
	for {
		if _, err := f.body.next(); err == io.EOF {
			f.body = nil
			return nil
		} else if err != nil {
			return err
		}
	}
}

// drain reads every reply that is still to come.
func (f *flight) drain() error {
	for {
		if err := f.finish(); err != nil {
			return err
		}
		if len(f.sent) == 0 {
			return nil
		}
		f.sent = f.sent[1:]
		if err := f.open(); errors.Is(err, ErrBroken) {
			return err
		}
	}
}
