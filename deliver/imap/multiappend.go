package imap

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// maxMultiAppend bounds the messages of one APPEND, in octets: the server stores none of
// them before it has received all.
const maxMultiAppend = 8 << 20

var (
	errUIDCount      = errors.New("the server tells of other messages than were sent together: which it has is asked at the next poll")
	errFolderChanged = errors.New("the server refused messages that were sent together, and new ones came meanwhile: which it has is asked at the next poll")
)

// multiAppendCount returns how many messages, from the next one on, go in one APPEND. It is
// 1 if the server does not tell UIDs: then checkUnchanged could not find out whether the
// server has stored some messages of a refused APPEND.
func (a *appender) multiAppendCount(ses *session) (count int) {
	if a.next < a.aloneUntil || a.smallestOverQuota != nil || ses.noMultiAppend || ses.hidesUIDs || ses.next == 0 ||
		!ses.caps.Has(imap.CapMultiAppend) || !ses.caps.Has(imap.CapLiteralPlus) || !ses.caps.Has(imap.CapUIDPlus) {
		return 1
	}
	octets := int64(0)
	for _, m := range a.messages[a.next:] {
		if m.size > ses.limit || octets+m.size > maxMultiAppend {
			break
		}
		octets += m.size
		count++
	}
	if octets <= smallLiteral { // wire cannot change what imapclient sends without waiting
		return 1
	}
	return count
}

// multiAppend waits for all answers, sends count messages in one APPEND, and waits for the
// answer to that. The order matters because finish compares a refusal with what landed
// after it.
func (a *appender) multiAppend(ses *session, count int) (lost error) {
	for len(a.inFlight) > 0 {
		lost = cmp.Or(lost, a.awaitAnswer(ses))
	}
	if lost != nil || a.stopErr != nil || a.landedErr != nil || a.smallestOverQuota != nil {
		return lost
	}
	n := a.next
	a.next += count
	if err := a.send(ses, n, count); err != nil {
		return err
	}
	refusedEarly := a.inFlight[0].refusal != nil // then the connection is closed
	if err := a.awaitAnswer(ses); err != nil || refusedEarly {
		return err
	}
	return a.checkUnchanged(ses)
}

// checkUnchanged returns an error if new messages have come into the folder since the
// server refused several in one APPEND: it may have stored some of them.
func (a *appender) checkUnchanged(ses *session) error {
	before := a.nextBefore
	if a.nextBefore = 0; before == 0 {
		return nil
	}
	validity := ses.validity
	if err := ses.readStatus(); err != nil {
		return ses.fail("append", err)
	}
	if ses.next != before || ses.validity != validity {
		return ses.sink.fail("append", errFolderChanged)
	}
	return nil
}

// messageHead returns what comes before a message that is not the first of an APPEND
// (RFC 3502 §6.3.11, RFC 9051 §9: append-message, date-time).
func (s *Sink) messageHead(m message) string {
	var b strings.Builder
	if len(s.flags) > 0 {
		list := fmt.Sprint(s.flags) // in brackets, with spaces between
		fmt.Fprintf(&b, " (%s)", list[1:len(list)-1])
	}
	if !m.date.IsZero() {
		b.WriteString(m.date.Format(` "_2-Jan-2006 15:04:05 -0700"`))
	}
	fmt.Fprintf(&b, " {%d+}\r\n", m.size)
	return b.String()
}

// appendUIDs matches the answer to an APPEND of several messages (RFC 4315 §3).
var appendUIDs = regexp.MustCompile(`^(\S+ OK \[APPENDUID \d+ )((\d+)[:,][\d:,]+)(\])`)

// keepFirstUID replaces the set of UIDs in an APPENDUID response by its first UID, which is
// all that imapclient understands, and keeps the set for takeUIDs. It returns any other
// line unchanged.
func (w *wire) keepFirstUID(line []byte) []byte {
	m := appendUIDs.FindSubmatch(line)
	if m == nil {
		return line
	}
	w.mu.Lock()
	w.uids = string(m[2])
	w.mu.Unlock()
	return slices.Concat(m[1], m[3], line[len(m[1])+len(m[2]):])
}

// takeUIDs returns the UIDs of the set that keepFirstUID has kept last. It returns nil if
// they are not n or do not begin with first.
func (w *wire) takeUIDs(first imap.UID, n int) []imap.UID {
	w.mu.Lock()
	defer w.mu.Unlock()
	set := w.uids
	w.uids = ""
	var uids []imap.UID
	for part := range strings.SplitSeq(set, ",") {
		from, to, several := strings.Cut(part, ":")
		if !several {
			to = from
		}
		low, err1 := strconv.ParseUint(from, 10, 32)
		high, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || low > high || high-low >= uint64(n-len(uids)) {
			return nil
		}
		for uid := low; uid <= high; uid++ {
			uids = append(uids, imap.UID(uid))
		}
	}
	if len(uids) != n || uids[0] != first {
		return nil
	}
	return uids
}
