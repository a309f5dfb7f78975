package pop3proto

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"time"
)

const (
	// maxCommands bounds the octets of commands under way. Sockets buffer
	// more than that, so writing them never waits for a server that is itself
	// waiting for its replies to be read.
	maxCommands = 4 << 10
	// maxDeletions is the same for DELE. Our own socket buffers as much by
	// itself; and of other commands more would gain nothing.
	maxDeletions = 16 << 10
	// The octets of messages that are under way beside the one that is read:
	// firstAhead, and then what came within aheadFor, between minAhead and
	// maxAhead. That keeps a long and fast line busy, and a slow one is not
	// to be read for long where nobody wants the rest any more. After sample
	// octets a line may prove faster than was assumed, but not slower: TCP
	// starts slowly.
	firstAhead, minAhead, maxAhead = 8 << 20, 1 << 20, 16 << 20
	sample                         = 256 << 10
	aheadFor                       = time.Second
)

// flight keeps commands of one kind under way (RFC 2449 §6.6) and tells whose
// reply is next: replies come in the order of their commands.
type flight struct {
	c    *Client
	verb string
	line func(e Entry) string // the command, without CRLF
	last string               // a command to follow the last one; may be empty
	room int64                // for octets of commands under way

	next func() (Entry, bool)
	held *sending // what next gave and there was no room for
	dry  bool     // next has no more
	any  bool     // a command was sent
	stat bool     // STAT is to follow the last one, if there was any

	sent            []sending // commands whose replies have not begun
	commands, ahead int64     // octets of those, and of the messages they ask for
	body            *dot      // the reply that has begun, if it is a body

	most  int64     // octets ahead, at present
	paced bool      // a first look was taken at how fast the line is
	taken int64     // octets of the messages that were taken since
	since time.Time // the last look, or the first reply; zero before
}

// sending is an entry and its command.
type sending struct {
	Entry
	line string
}

// octets returns those of the command, and about those that it asks for.
func (s *sending) octets() (command, asked int64) {
	return int64(len(s.line) + len("\r\n")), s.Size
}

// fly begins a flight of commands about the entries of want. stop releases
// want.
func (c *Client) fly(verb string, want iter.Seq[Entry], line func(Entry) string) (f *flight, stop func()) {
	next, stop := iter.Pull(want)
	return &flight{c: c, verb: verb, line: line, room: maxCommands, next: next, most: firstAhead}, stop
}

// turn returns the entry whose reply is to be read next, and false when there
// is none left. It sends more commands before what is under way runs out: when
// half of what may be is answered, and once as soon as the line may have proved
// fast.
func (f *flight) turn() (e Entry, ok bool, err error) {
	look := !f.paced && f.taken >= sample
	if !f.dry && len(f.sent) <= f.c.window()/2 && f.commands <= f.room/2 && (f.ahead <= f.most/2 || look) {
		err = f.refill()
	}
	if len(f.sent) == 0 {
		return Entry{}, false, err
	}
	return f.take(), true, err
}

// take takes the entry whose reply is next out of those under way.
func (f *flight) take() Entry {
	s := f.sent[0]
	f.sent = f.sent[1:]
	command, asked := s.octets()
	f.commands -= command
	f.ahead -= asked
	f.taken += asked
	return s.Entry
}

// pace sets how much may be ahead from now on.
func (f *flight) pace() {
	if f.since.IsZero() {
		return
	}
	now := time.Now()
	took := max(now.Sub(f.since), time.Millisecond)
	most := min(max(int64(float64(f.taken)*float64(aheadFor)/float64(took)), minAhead), maxAhead)
	if f.paced || most > f.most {
		f.most = most
	}
	f.paced, f.taken, f.since = true, 0, now
}

func (f *flight) refill() error {
	f.pace()
	if len(f.sent) == 0 {
		if err := f.c.idle(f.verb); err != nil {
			return err
		}
	}
	for len(f.sent) < f.c.window() {
		s, ok := f.pull()
		if !ok {
			f.dry = true
			if f.stat && f.any {
				f.last = "STAT"
			}
			if f.last != "" { // with those under way, if the server pipelines
				f.c.w.put(f.last)
			}
			break
		}
		command, asked := s.octets()
		if len(f.sent) > 0 && (f.commands+command > f.room || f.ahead+asked > f.most) {
			f.held = s
			break
		}
		f.sent, f.any, f.c.stat = append(f.sent, *s), true, nil
		f.commands += command
		f.ahead += asked
		f.c.w.put(s.line)
	}
	return f.c.w.flush()
}

// pull returns what is to be sent next.
func (f *flight) pull() (*sending, bool) {
	if s := f.held; s != nil {
		f.held = nil
		return s, true
	}
	e, ok := f.next()
	if !ok {
		return nil, false
	}
	return &sending{e, f.line(e)}, true
}

// open reads the status line of a reply. If the server refused the command
// the error is a *ReplyError; else f.body is the body.
func (f *flight) open() error {
	_, err := f.c.reply(f.verb)
	if f.since.IsZero() {
		f.since = time.Now()
	}
	if err != nil {
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
			return f.end()
		}
		f.take()
		if err := f.open(); errors.Is(err, ErrBroken) {
			return err
		}
	}
}

// end reads the reply to the STAT that followed the last command, if one did.
func (f *flight) end() error {
	if f.last == "" {
		return nil
	}
	text, err := f.c.reply(f.last)
	if errors.Is(err, ErrBroken) {
		return err
	}
	f.c.stat = &stat{bytes.Clone(text), err}
	return nil
}
