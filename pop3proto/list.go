package pop3proto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"syscall"
)

// Entry is a message in the maildrop.
type Entry struct {
	// Num is the server's number for the message, good for this session only.
	Num int
	// UID is its unique-id (RFC 1939 §7), or empty if it has none that can be
	// used. It is the server's bytes, perhaps more than 70, perhaps with
	// blanks and 8-bit characters, but without CR, LF and NUL. Two messages
	// may have the same.
	UID string
	// Size is what the server says it has in octets: a hint, at most 1 TiB, and
	// 0 if it did not say.
	Size int64
}

// Listing is what the maildrop holds.
type Listing struct {
	// Entries are in ascending order of Num, each Num once, not always
	// without gaps.
	Entries []Entry
	// Count and Octets are what STAT said: hints. Count is -1 if it said
	// nothing of use.
	Count  int
	Octets int64
	// UIDL reports whether the server knows UIDL. If not, no entry has a UID.
	UIDL bool
	// Unnamed counts the entries that LIST has and UIDL has not.
	Unnamed int
	// Sized reports whether LIST was asked. If not, no entry has a Size, and
	// those that only LIST would name are missing.
	Sized bool
	// Odd counts the lines that were dropped: no number in them, or one that
	// was listed before.
	Odd int
}

// List asks for all messages, with their sizes and unique-ids: STAT, LIST and
// UIDL, in one flight where the server offers PIPELINING. The numbers are the
// server's own. A message that only one of LIST and UIDL has is listed, with
// what is known of it. If UIDL lists a number twice with different unique-ids,
// neither is used.
//
// A server that refuses UIDL has a listing without unique-ids, and one that
// refuses LIST has one without sizes. It is a *ReplyError if it refuses both,
// unless STAT found nothing to list; or if it refuses UIDL with a response
// code, for that says that it knows the command and cannot do it now. Any
// listing is bounded by Options.MaxMessages, and all unique-ids together by
// 256 MiB; beyond that the client is broken, with a *ProtocolError. An
// *AheadError tells that the server may not take a flight.
func (c *Client) List(ctx context.Context) (*Listing, error) {
	_, l, err := c.list(ctx, false, true)
	return l, err
}

// ListUIDs is List without LIST, whose answer is long where a maildrop is
// large and of no use where nothing is new. A server that refuses UIDL is asked
// for LIST all the same.
func (c *Client) ListUIDs(ctx context.Context) (*Listing, error) {
	_, l, err := c.list(ctx, false, false)
	return l, err
}

// Survey asks what the server can do and what the maildrop holds: Capabilities,
// and then List, or ListUIDs if sizes is false. It is for the time after the
// login. A server that offered PIPELINING before is asked in one flight: it
// offers that in both states or in none (RFC 2449 §6.6).
func (c *Client) Survey(ctx context.Context, sizes bool) (Capabilities, *Listing, error) {
	return c.list(ctx, true, sizes)
}

func (c *Client) list(ctx context.Context, capa, sizes bool) (caps Capabilities, l *Listing, err error) {
	done, err := c.start(ctx)
	if err != nil {
		return caps, nil, err
	}
	defer done()

	verbs := []string{"STAT", "UIDL"}
	if sizes {
		verbs = []string{"STAT", "LIST", "UIDL"}
	}
	q := &questions{c: c}
	defer func() {
		hungUp := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
		if q.heard && errors.Is(err, os.ErrDeadlineExceeded) || q.flown != nil && hungUp {
			err = &AheadError{err}
		}
	}()
	if capa {
		if err := q.fly(append([]string{"CAPA"}, verbs...)); err != nil {
			return caps, nil, err
		}
		_, err := q.ask("CAPA")
		if caps, err = c.capabilities(err); err != nil {
			return caps, nil, err
		}
	}
	if err := q.fly(verbs); err != nil { // it may be offered only now
		return caps, nil, err
	}
	l, err = q.listing(sizes)
	return caps, l, err
}

// stat is a reply to STAT.
type stat struct {
	text []byte
	err  error
}

// InStep asks STAT (RFC 1939 §5) once more, and fails unless the answer is the one
// that the listing holds, if that holds one: else it may be the reply to a command
// before, and the client is broken, with a *ProtocolError. More messages with more
// octets will do, since some servers count what comes in a session. Where Retrieve or
// Top came to the end of a flight, it was asked behind the last command of that, and
// takes no time.
func (c *Client) InStep(ctx context.Context, l *Listing) error {
	if l.Count < 0 {
		return nil
	}
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	said := c.stat
	if said == nil {
		text, err := c.exchange("STAT", "STAT")
		if errors.Is(err, ErrBroken) {
			return err
		}
		said = &stat{text, err}
	}
	if count, octets, ok := parseStat(said.text); said.err == nil && ok {
		same := count == l.Count && octets == l.Octets
		more := count > l.Count && octets > l.Octets && l.Octets > 0
		if same || more {
			return nil
		}
	}
	return c.w.failSyntax("STAT", fmt.Sprintf("\"+OK %d %d\", as before", l.Count, l.Octets), said.text)
}

// questions are commands without arguments, in one flight or one by one.
type questions struct {
	c     *Client
	flown []string // sent in one flight, and asked in its order
	heard bool     // one of those was answered
}

// fly sends questions in one flight, unless that was done, or the server does
// not take as many at once.
func (q *questions) fly(verbs []string) error {
	if q.flown != nil || q.c.window() < len(verbs) {
		return nil
	}
	if err := q.c.idle(verbs[0]); err != nil {
		return err
	}
	for _, verb := range verbs {
		q.c.w.put(verb)
	}
	q.flown = verbs
	return q.c.w.flush()
}

// ask returns the text of the reply to a question.
func (q *questions) ask(verb string) (text []byte, err error) {
	if slices.Contains(q.flown, verb) {
		text, err = q.c.reply(verb)
		q.heard = q.heard || !errors.Is(err, ErrBroken)
		return text, err
	}
	return q.c.exchange(verb, verb)
}

// listing asks STAT, UIDL and, if sizes is true, LIST.
func (q *questions) listing(sizes bool) (*Listing, error) {
	l := &Listing{Count: -1}
	// Nothing depends on STAT: an odd answer is no answer.
	text, err := q.ask("STAT")
	if errors.Is(err, ErrBroken) {
		return nil, err
	}
	if count, octets, ok := parseStat(text); err == nil && ok {
		l.Count, l.Octets = count, octets
		q.c.counted = true
	}

	m := merger{maxBytes: maxUIDBytes}
	m.expect(l.Count, sizes)
	var errList error
	if sizes {
		if errList = q.sizes(&m); errors.Is(errList, ErrBroken) {
			return nil, errList
		}
	}
	errUIDL := q.names(&m)
	if hopeless(errUIDL) {
		return nil, errUIDL
	}
	if errUIDL != nil && !sizes {
		sizes = true
		if errList = q.sizes(&m); errors.Is(errList, ErrBroken) {
			return nil, errList
		}
	}
	l.UIDL, l.Sized = errUIDL == nil, sizes
	if l.UIDL {
		l.Unnamed = m.unnamed()
	}
	l.Entries, l.Odd = m.result()
	if errList != nil && errUIDL != nil && l.Count != 0 {
		return nil, errList
	}
	return l, nil
}

// sizes asks for LIST. An error other than a *ReplyError has broken the client.
func (q *questions) sizes(m *merger) error {
	_, err := q.ask("LIST")
	if err == nil {
		err = q.c.lines("LIST", q.c.opts.MaxMessages, m.addSize)
	}
	m.sized()
	return err
}

// names asks for UIDL.
func (q *questions) names(m *merger) error {
	if _, err := q.ask("UIDL"); err != nil {
		return err
	}
	return q.c.lines("UIDL", q.c.opts.MaxMessages, func(line []byte) error {
		if !m.addUID(line) {
			return q.c.w.failSyntax("UIDL", "less than 256 MiB of unique-ids", nil)
		}
		return nil
	})
}

// hopeless reports whether there is no listing after an error of names: the
// client is broken, or the server knows UIDL and cannot do it now.
func hopeless(err error) bool {
	refused, ok := errors.AsType[*ReplyError](err)
	return errors.Is(err, ErrBroken) || ok && refused.Code != ""
}

// AddSizes asks for LIST and adds what it says to the listing of ListUIDs: the
// sizes, and messages that UIDL did not name. A server that refuses LIST has no
// sizes to add, which is no error.
func (c *Client) AddSizes(ctx context.Context, l *Listing) error {
	if l.Sized {
		return nil
	}
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	q := &questions{c: c}
	m := merger{}
	if err := q.sizes(&m); errors.Is(err, ErrBroken) {
		return err
	}
	for _, e := range l.Entries {
		m.name(e.Num, e.UID)
	}
	l.Unnamed = m.unnamed()
	entries, odd := m.result()
	l.Entries, l.Odd, l.Sized = entries, l.Odd+odd, true
	return nil
}

// AddUIDs asks for UIDL once more and adds what it says to the listing, where
// the server refused it or did not name all messages. If it refuses it again,
// there is nothing to add, which is no error but for a response code, as with
// List.
func (c *Client) AddUIDs(ctx context.Context, l *Listing) error {
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	q := &questions{c: c}
	m := merger{maxBytes: maxUIDBytes, entries: slices.Clone(l.Entries)}
	m.sized()
	if err := q.names(&m); hopeless(err) {
		return err
	} else if err != nil {
		return nil
	}
	l.UIDL, l.Unnamed = true, m.unnamed()
	entries, odd := m.result()
	l.Entries, l.Odd = entries, l.Odd+odd
	return nil
}

// parseStat reads the reply to STAT: "2 320", perhaps with more behind it.
// Servers have been seen to send sizes that are negative or overflowed: those
// are 0.
func parseStat(text []byte) (count int, octets int64, ok bool) {
	first, rest := cutWord(text)
	n, ok := parseNumber(first)
	if !ok || n > math.MaxInt32 {
		return 0, 0, false
	}
	second, _ := cutWord(rest)
	octets, _ = parseNumber(second)
	return int(n), octets, true
}

// cutWord takes a word off the front, and all blanks around it.
func cutWord(b []byte) (word, rest []byte) {
	b = trimBlanks(b)
	for i, c := range b {
		if isBlank(c) {
			return b[:i], trimBlanks(b[i:])
		}
	}
	return b, nil
}

// trimBlanks takes the blanks off both ends. Package bytes would build a table
// for them, at every line of a listing.
func trimBlanks(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// parseNumber reads digits alone; anything else is 0 and false.
func parseNumber(b []byte) (n int64, ok bool) {
	for _, d := range b {
		if d < '0' || d > '9' || n > (math.MaxInt64-int64(d-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	return n, len(b) > 0
}
