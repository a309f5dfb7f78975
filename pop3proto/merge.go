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
	// maxUIDBytes limits all unique-ids of a listing together.
	maxUIDBytes = 256 << 20
	// maxSize is the largest size that is reported, so that the sizes of a whole
	// listing can be added up without overflow.
	maxSize = 1 << 40
	// maxReserved limits the entries for which memory is reserved because the
	// server reports a number in STAT.
	maxReserved = 1 << 16
	// Unique-ids are stored in chunks. The first has minUIDChunk bytes, since most
	// listings are short. Each is twice as large as the last up to maxUIDChunk,
	// since one unique-id keeps its whole chunk alive.
	minUIDChunk, maxUIDChunk = maxUID, 64 << 10
)

// merger merges the lines of LIST and UIDL by message number. LIST comes first, if
// at all: addSize takes each of its lines, and endSizes ends them. addUID takes each
// line of UIDL. A maildrop can hold a million messages, so there is no allocation
// per line.
type merger struct {
	entries []Entry // from LIST, sorted by endSizes
	named   []bool  // which of entries have a line of UIDL
	cursor  int     // the index in entries where the next line of UIDL is expected
	extra   []Entry // only from UIDL
	ignored int     // lines without a message number, or that repeat one

	uids         strings.Builder // the current chunk of unique-ids
	uidBytesLeft int             // of maxUIDBytes
}

// reserve allocates memory for the number of entries that STAT reported, which
// LIST or else UIDL will bring. That number may be wrong.
func (m *merger) reserve(count int, sizes bool) {
	entries := &m.extra
	if sizes {
		entries = &m.entries
	}
	*entries = make([]Entry, 0, min(max(count, 0), maxReserved))
}

// addSize adds a line of LIST. It never fails.
func (m *merger) addSize(line []byte) error {
	num, rest, ok := cutNum(line)
	if !ok {
		m.ignored++
		return nil
	}
	word, _ := cutWord(rest)
	size, _ := parseNumber(word)
	m.entries = append(m.entries, Entry{Num: num, Size: min(size, maxSize)})
	return nil
}

// endSizes ends the lines of LIST.
func (m *merger) endSizes() {
	m.entries = m.sortUnique(m.entries)
	m.named = make([]bool, len(m.entries))
}

// addUID adds a line of UIDL. It returns false if that exceeds maxUIDBytes.
func (m *merger) addUID(line []byte) bool {
	num, uid, ok := cutNum(line)
	if !ok {
		m.ignored++
		return true
	}
	if len(uid) > maxUID || bytes.IndexByte(uid, 0) >= 0 || bytes.IndexByte(uid, '\r') >= 0 {
		uid = nil
	}
	stored, ok := m.storeUID(uid)
	m.setUID(num, stored)
	return ok
}

// setUID sets the unique-id of the message with number num.
func (m *merger) setUID(num int, uid string) {
	// Servers usually send both listings in the same order.
	found := m.cursor < len(m.entries) && m.entries[m.cursor].Num == num
	if !found {
		m.cursor, found = slices.BinarySearchFunc(m.entries, num, func(e Entry, num int) int { return cmp.Compare(e.Num, num) })
	}
	switch {
	case !found:
		m.extra = append(m.extra, Entry{Num: num, UID: uid})
	case m.named[m.cursor]:
		m.ignored++
		m.entries[m.cursor].dropUIDUnless(uid)
	default:
		m.entries[m.cursor].UID = uid
		m.named[m.cursor] = true
		m.cursor++
	}
}

// countUnnamed counts the messages that only LIST reported. It must be called
// before result.
func (m *merger) countUnnamed() (n int) {
	for i, named := range m.named {
		if !named && m.entries[i].UID == "" {
			n++
		}
	}
	return n
}

// result returns the merged entries and the number of ignored lines.
func (m *merger) result() (entries []Entry, ignored int) {
	switch {
	case len(m.extra) == 0:
	case len(m.entries) == 0: // without LIST
		m.entries = m.sortUnique(m.extra)
	default:
		m.entries = m.sortUnique(append(m.entries, m.extra...))
	}
	return m.entries, m.ignored
}

// sortUnique sorts entries by number and keeps the first of those with the same
// number.
func (m *merger) sortUnique(entries []Entry) []Entry {
	byNum := func(a, b Entry) int { return cmp.Compare(a.Num, b.Num) }
	if !slices.IsSortedFunc(entries, byNum) {
		slices.SortStableFunc(entries, byNum)
	}
	kept := entries[:0]
	for _, e := range entries {
		if n := len(kept); n > 0 && kept[n-1].Num == e.Num {
			m.ignored++
			kept[n-1].dropUIDUnless(e.UID)
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// dropUIDUnless removes the entry's UID if the server reported another one, uid, for
// the same number. With a wrong UID a message that was never fetched could be deleted.
func (e *Entry) dropUIDUnless(uid string) {
	if e.UID != uid {
		e.UID = ""
	}
}

// storeUID copies uid into the current chunk. It returns false if that exceeds
// maxUIDBytes.
func (m *merger) storeUID(uid []byte) (stored string, ok bool) {
	if m.uidBytesLeft -= len(uid); m.uidBytesLeft < 0 {
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

// cutNum splits a line into the message number and the rest, without blanks around
// either. Some servers put several blanks or a tab between the two.
func cutNum(line []byte) (num int, rest []byte, ok bool) {
	word, rest := cutWord(line)
	n, ok := parseNumber(word)
	if !ok || n < 1 || n > math.MaxInt32 {
		return 0, nil, false
	}
	return int(n), rest, true
}
