package pop3proto

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// Entry is a message in the maildrop.
type Entry struct {
	// Num is the message number, which is valid in this session only.
	Num int
	// UID is the unique-id (RFC 1939 §7), or empty if the message has none that
	// is usable. It may have more than 70 bytes, blanks and 8-bit characters,
	// but no CR, LF or NUL. Two messages may have the same UID.
	UID string
	// Size is the size in octets that the server reports: a hint, at most 1 TiB,
	// and 0 if unknown.
	Size int64
}

// Listing is the content of a maildrop.
type Listing struct {
	// Entries are in ascending order of Num. Numbers are unique, but may have
	// gaps.
	Entries []Entry
	// Count and Octets are the numbers that STAT reported: hints. Count is -1 if
	// STAT had no usable reply.
	Count  int
	Octets int64
	// UIDL reports whether the server accepted UIDL. If not, no entry has a UID.
	UIDL bool
	// Unnamed counts the entries that LIST reported and UIDL did not.
	Unnamed int
	// Sized reports whether LIST was sent. If not, no entry has a Size, and
	// messages that only LIST would report are missing.
	Sized bool
	// Odd counts the lines that were ignored: those without a message number,
	// and those that repeat one.
	Odd int
}

// List lists all messages, with their sizes and unique-ids. It sends STAT, LIST
// and UIDL, all at once if the server offers PIPELINING. A message that only one
// of LIST and UIDL reports is listed with what is known of it. A message for which
// UIDL reports several unique-ids has no UID.
//
// The listing has no unique-ids if the server refuses UIDL, and no sizes if it
// refuses LIST. The error is a *ReplyError if it refuses both, unless STAT
// reported an empty maildrop, or if it refuses UIDL with a response code: such a
// server knows the command, but cannot run it now. Listings longer than
// Options.MaxMessages, or with more than 256 MiB of unique-ids, break the client
// with a *ProtocolError. An *AheadError means that the server may not support
// commands sent at once.
func (c *Client) List(ctx context.Context) (*Listing, error) {
	_, listing, err := c.survey(ctx, false, true)
	return listing, err
}

// ListUIDs is like List, but sends LIST only if the server refuses UIDL. For a
// large maildrop without new messages that avoids a long reply of no use.
func (c *Client) ListUIDs(ctx context.Context) (*Listing, error) {
	_, listing, err := c.survey(ctx, false, false)
	return listing, err
}

// Survey combines Capabilities with List, or with ListUIDs if sizes is false. It
// is to be called after the login. If the server offered PIPELINING before the
// login, all commands are sent at once: PIPELINING is offered in both states or in
// neither (RFC 2449 §6.6).
func (c *Client) Survey(ctx context.Context, sizes bool) (Capabilities, *Listing, error) {
	return c.survey(ctx, true, sizes)
}

func (c *Client) survey(ctx context.Context, capa, sizes bool) (Capabilities, *Listing, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return Capabilities{}, nil, err
	}
	defer end()
	l := &lister{c: c}
	caps, listing, err := l.run(capa, sizes)
	return caps, listing, l.wrapAhead(err)
}

// InStep checks that replies still match commands: it sends STAT (RFC 1939 §5)
// and compares the reply with that in the listing. If they differ, the reply may
// belong to an earlier command, and the client is broken, with a *ProtocolError.
// A reply with more messages and more octets passes, since some servers count
// messages that arrive during the session. A listing without a count always passes.
//
// Retrieve and Top send this STAT with their last commands where they are
// pipelined, so that InStep has no round trip to wait for.
func (c *Client) InStep(ctx context.Context, l *Listing) error {
	if l.Count < 0 {
		return nil
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	reply := c.lastStat
	if reply == nil {
		text, err := c.exchange("STAT", "STAT")
		if errors.Is(err, ErrBroken) {
			return err
		}
		reply = &statReply{text, err}
	}
	if count, octets, ok := parseStat(reply.text); reply.err == nil && ok {
		same := count == l.Count && octets == l.Octets
		grown := count > l.Count && octets > l.Octets && l.Octets > 0
		if same || grown {
			return nil
		}
	}
	return c.w.failSyntax("STAT", fmt.Sprintf("\"+OK %d %d\", as before", l.Count, l.Octets), reply.text)
}

// statReply is a reply to STAT: its text, or a *ReplyError.
type statReply struct {
	text []byte
	err  error
}

// lister runs the commands of a listing, which have no arguments: all at once or
// one by one.
type lister struct {
	c        *Client
	sent     []string // the verbs that were sent at once; their replies come in this order
	answered bool     // at least one of them has a reply
}

// run sends the commands of a listing, after CAPA if capa is true.
func (l *lister) run(capa, sizes bool) (caps Capabilities, listing *Listing, err error) {
	verbs := []string{"STAT", "UIDL"}
	if sizes {
		verbs = []string{"STAT", "LIST", "UIDL"}
	}
	if capa {
		if err := l.sendAll(append([]string{"CAPA"}, verbs...)); err != nil {
			return caps, nil, err
		}
		_, err := l.exchange("CAPA")
		if caps, err = l.c.readCapabilities(err); err != nil {
			return caps, nil, err
		}
	}
	if err := l.sendAll(verbs); err != nil { // CAPA may have offered PIPELINING only now
		return caps, nil, err
	}
	listing, err = l.list(sizes)
	return caps, listing, err
}

// sendAll sends commands at once, unless that was done before or the window is too
// small.
func (l *lister) sendAll(verbs []string) error {
	if l.sent != nil || l.c.window() < len(verbs) {
		return nil
	}
	if err := l.c.checkUnsolicited(verbs[0]); err != nil {
		return err
	}
	for _, verb := range verbs {
		l.c.w.queue(verb)
	}
	l.sent = verbs
	return l.c.w.flush()
}

// exchange returns the text of the reply to verb. It sends verb unless sendAll has done so.
func (l *lister) exchange(verb string) (text []byte, err error) {
	if slices.Contains(l.sent, verb) {
		text, err = l.c.readReply(verb)
		l.answered = l.answered || !errors.Is(err, ErrBroken)
		return text, err
	}
	return l.c.exchange(verb, verb)
}

// wrapAhead wraps err in an *AheadError if the reason may be that the server does
// not support commands sent at once.
func (l *lister) wrapAhead(err error) error {
	if l.answered && errors.Is(err, os.ErrDeadlineExceeded) || l.sent != nil && hungUp(err) {
		return &AheadError{err}
	}
	return err
}

// list runs STAT, UIDL and, if sizes is true or the server refuses UIDL, LIST.
func (l *lister) list(sizes bool) (*Listing, error) {
	listing := &Listing{Count: -1}
	// Nothing depends on STAT, so a malformed reply is ignored.
	text, err := l.exchange("STAT")
	if errors.Is(err, ErrBroken) {
		return nil, err
	}
	if count, octets, ok := parseStat(text); err == nil && ok {
		listing.Count, listing.Octets = count, octets
		l.c.hasStat = true
	}

	m := merger{uidBytesLeft: maxUIDBytes}
	m.reserve(listing.Count, sizes)
	var listErr error
	if sizes {
		if listErr = l.addSizes(&m); errors.Is(listErr, ErrBroken) {
			return nil, listErr
		}
	}
	uidlErr := l.addUIDs(&m)
	if failsListing(uidlErr) {
		return nil, uidlErr
	}
	if uidlErr != nil && !sizes {
		sizes = true
		if listErr = l.addSizes(&m); errors.Is(listErr, ErrBroken) {
			return nil, listErr
		}
	}
	if listErr != nil && uidlErr != nil && listing.Count != 0 {
		return nil, listErr
	}
	listing.UIDL, listing.Sized = uidlErr == nil, sizes
	if listing.UIDL {
		listing.Unnamed = m.countUnnamed()
	}
	listing.Entries, listing.Odd = m.result()
	return listing, nil
}

// addSizes runs LIST. An error is a *ReplyError or matches ErrBroken.
func (l *lister) addSizes(m *merger) error {
	_, err := l.exchange("LIST")
	if err == nil {
		err = l.c.readLines("LIST", l.c.opts.MaxMessages, m.addSize)
	}
	m.endSizes()
	return err
}

// addUIDs runs UIDL. An error is a *ReplyError or matches ErrBroken.
func (l *lister) addUIDs(m *merger) error {
	if _, err := l.exchange("UIDL"); err != nil {
		return err
	}
	return l.c.readLines("UIDL", l.c.opts.MaxMessages, func(line []byte) error {
		if !m.addUID(line) {
			return l.c.w.failSyntax("UIDL", "less than 256 MiB of unique-ids", nil)
		}
		return nil
	})
}

// failsListing reports whether an error of addUIDs fails the listing: the client is
// broken, or the server knows UIDL and cannot run it now.
func failsListing(err error) bool {
	refused, ok := errors.AsType[*ReplyError](err)
	return errors.Is(err, ErrBroken) || ok && refused.Code != ""
}

// AddSizes completes a listing of ListUIDs with LIST: it adds the sizes, and the
// messages that UIDL did not report. It is no error if the server refuses LIST;
// there are no sizes then.
func (c *Client) AddSizes(ctx context.Context, l *Listing) error {
	if l.Sized {
		return nil
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	m := merger{}
	if err := (&lister{c: c}).addSizes(&m); errors.Is(err, ErrBroken) {
		return err
	}
	for _, e := range l.Entries {
		m.setUID(e.Num, e.UID)
	}
	l.Sized = true
	l.complete(&m)
	return nil
}

// AddUIDs sends UIDL again and adds the unique-ids to a listing for which the
// server refused it, or did not report all messages. It is no error if the server
// refuses it again, unless with a response code, as in List.
func (c *Client) AddUIDs(ctx context.Context, l *Listing) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	m := merger{uidBytesLeft: maxUIDBytes, entries: slices.Clone(l.Entries)}
	m.endSizes()
	if err := (&lister{c: c}).addUIDs(&m); failsListing(err) {
		return err
	} else if err != nil {
		return nil
	}
	l.UIDL = true
	l.complete(&m)
	return nil
}

// complete replaces the entries of a listing with those of m.
func (l *Listing) complete(m *merger) {
	l.Unnamed = m.countUnnamed()
	entries, ignored := m.result()
	l.Entries = entries
	l.Odd += ignored
}

// parseStat parses the text of a reply to STAT: "2 320", possibly with more text
// after it. The octets are 0 if they are negative or overflow, as some servers
// send them.
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

// cutWord returns the first word of b, and the rest without blanks around it.
func cutWord(b []byte) (word, rest []byte) {
	b = trimBlanks(b)
	for i, c := range b {
		if isBlank(c) {
			return b[:i], trimBlanks(b[i:])
		}
	}
	return b, nil
}

// trimBlanks removes the blanks at both ends. It is faster than bytes.Trim, which
// builds a table for its cutset on each call, and runs for every line of a listing.
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

// parseNumber parses a number that consists of digits only, without overflow.
func parseNumber(b []byte) (n int64, ok bool) {
	for _, d := range b {
		if d < '0' || d > '9' || n > (math.MaxInt64-int64(d-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	return n, len(b) > 0
}
