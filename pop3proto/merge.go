package pop3proto

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
)

const (
	// maxUID is the longest unique-id that is used. RFC 1939 §7 allows 70
	// octets.
	maxUID = 1024
	// maxUIDBytes bounds the unique-ids of a listing together.
	maxUIDBytes = 256 << 20
	// maxSize is the largest size that is believed, so that those of a whole
	// listing can be added up.
	maxSize = 1 << 40
	// Memory for unique-ids is taken in chunks, each twice the last, between
	// these: most listings are short, and a chunk lives as long as any of its
	// unique-ids.
	minUIDChunk, maxUIDChunk = maxUID, 64 << 10
)

// merger makes one listing of LIST and UIDL, line by line, by message number.
// A maildrop can hold a million messages: there is no allocation per line.
type merger struct {
	entries []Entry // from LIST, sorted once sized was called
	seen    []bool  // which of entries UIDL has named
	at      int     // where in entries the next line of UIDL is expected
	extra   []Entry // what only UIDL has
	odd     int

	uids     strings.Builder // the chunk that UIDs are cut from
	maxBytes int             // what UIDs may still take
}

// room is how many entries memory is taken for because a server says so.
const room = 1 << 16

// expect makes room for the entries of a listing, of which there may be
// another number.
func (m *merger) expect(count int, sizes bool) {
	entries := &m.extra
	if sizes {
		entries = &m.entries
	}
	*entries = make([]Entry, 0, min(max(count, 0), room))
}

// addSize takes a line of LIST.
func (m *merger) addSize(line []byte) error {
	num, rest, ok := cutNum(line)
	if !ok {
		m.odd++
		return nil
	}
	word, _ := cutWord(rest)
	size, _ := parseNumber(word)
	m.entries = append(m.entries, Entry{Num: num, Size: min(size, maxSize)})
	return nil
}

// sized ends the lines of LIST.
func (m *merger) sized() {
	m.entries = m.unique(m.entries)
	m.seen = make([]bool, len(m.entries))
}

// addUID takes a line of UIDL. It returns false if that is too much.
func (m *merger) addUID(line []byte) bool {
	num, uid, ok := cutNum(line)
	if !ok {
		m.odd++
		return true
	}
	if len(uid) > maxUID || bytes.IndexByte(uid, 0) >= 0 || bytes.IndexByte(uid, '\r') >= 0 {
		uid = nil
	}
	kept, ok := m.keep(uid)
	m.name(num, kept)
	return ok
}

// name gives a message its unique-id.
func (m *merger) name(num int, uid string) {
	// Servers give both listings in the same order.
	found := m.at < len(m.entries) && m.entries[m.at].Num == num
	if !found {
		m.at, found = slices.BinarySearchFunc(m.entries, num, func(e Entry, num int) int { return cmp.Compare(e.Num, num) })
	}
	switch {
	case !found:
		m.extra = append(m.extra, Entry{Num: num, UID: uid})
	case m.seen[m.at]:
		m.odd++
		m.entries[m.at].repeat(uid)
	default:
		m.entries[m.at].UID = uid
		m.seen[m.at] = true
		m.at++
	}
}

// unnamed counts what only LIST has. It is asked before result.
func (m *merger) unnamed() (n int) {
	for i, seen := range m.seen {
		if !seen && m.entries[i].UID == "" {
			n++
		}
	}
	return n
}

// result returns the whole listing.
func (m *merger) result() (entries []Entry, odd int) {
	switch {
	case len(m.extra) == 0:
	case len(m.entries) == 0: // without LIST
		m.entries = m.unique(m.extra)
	default:
		m.entries = m.unique(append(m.entries, m.extra...))
	}
	return m.entries, m.odd
}

// unique sorts entries and keeps the first of those with one number.
func (m *merger) unique(entries []Entry) []Entry {
	byNum := func(a, b Entry) int { return cmp.Compare(a.Num, b.Num) }
	if !slices.IsSortedFunc(entries, byNum) {
		slices.SortStableFunc(entries, byNum)
	}
	kept := entries[:0]
	for _, e := range entries {
		if n := len(kept); n > 0 && kept[n-1].Num == e.Num {
			m.odd++
			kept[n-1].repeat(e.UID)
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// repeat takes note that the entry's number was listed again. If that was
// with another unique-id nobody knows whose message it is, and to delete it
// by either could delete mail that was never seen.
func (e *Entry) repeat(uid string) {
	if e.UID != uid {
		e.UID = ""
	}
}

// keep copies uid into memory that is shared by many.
func (m *merger) keep(uid []byte) (kept string, ok bool) {
	if m.maxBytes -= len(uid); m.maxBytes < 0 {
		return "", false
	}
	if m.uids.Cap()-m.uids.Len() < len(uid) {
		next := min(max(2*m.uids.Cap(), minUIDChunk), maxUIDChunk)
		m.uids = strings.Builder{}
		m.uids.Grow(next)
	}
	start := m.uids.Len()
	m.uids.Write(uid)
	return m.uids.String()[start:], true
}

// cutNum takes the message number off the front of a line, and all blanks
// around it and at the line's end. It has been seen followed by several
// blanks, or a tab.
func cutNum(line []byte) (num int, rest []byte, ok bool) {
	word, rest := cutWord(line)
	n, ok := parseNumber(word)
	if !ok || n < 1 || n > math.MaxInt32 {
		return 0, nil, false
	}
	return int(n), rest, true
}
