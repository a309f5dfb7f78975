// Package envelope reads from a message's header what a sink is told of it,
// and writes the trace fields that a relay puts before it. It does no I/O.
package envelope

import (
	"bytes"
	"iter"
	"slices"
	"strings"
	"time"
)

// Envelope is what a header tells of a message's way here.
type Envelope struct {
	// Sender is the envelope sender: the address of Return-Path, else of
	// Sender, else of From. It is an addr-spec without blanks and control
	// characters, or empty: the null sender, or no field held a sane address.
	Sender string
	// ReturnPath reports whether there is a Return-Path field, whatever it
	// holds.
	ReturnPath bool
	// Date is the date of the topmost Received field, else that of Date, as
	// the message claims it: it may lie in any year. It is zero if neither
	// could be read.
	Date time.Time
}

// Parse reads an envelope from the beginning of a message. header may be cut
// off anywhere, hold more than the header, or be no header at all; lines end
// in CRLF or LF. What cannot be understood is passed over.
func Parse(header []byte) Envelope {
	var values [len(envelopeFields)]string
	var found [len(envelopeFields)]bool
	for name, value := range fields(header, func(name []byte) bool {
		i := envelopeFieldIndex(name)
		return i >= 0 && !found[i]
	}) {
		i := envelopeFieldIndex(name)
		values[i], found[i] = string(value), true
	}

	e := Envelope{ReturnPath: found[returnPath]}
	// RFC 5321 §4.4: the date is what follows the last semicolon.
	if i := strings.LastIndexByte(values[received], ';'); i >= 0 {
		e.Date = parseDate(values[received][i+1:])
	}
	if e.Date.IsZero() {
		e.Date = parseDate(values[date])
	}
	for _, i := range []int{returnPath, sender, from} {
		if addr, ok := address(values[i]); ok {
			e.Sender = addr
			break
		}
	}
	return e
}

// envelopeFields are the fields that tell of the envelope.
var envelopeFields = [...]string{received: "received", date: "date", returnPath: "return-path", sender: "sender", from: "from"}

const (
	received = iota
	date
	returnPath
	sender
	from
)

// envelopeFieldIndex returns which of the fields it is that has this name, -1 if none.
func envelopeFieldIndex(name []byte) int {
	for i, field := range envelopeFields {
		if len(name) == len(field) && strings.EqualFold(string(name), field) {
			return i
		}
	}
	return -1
}

const maxRecipients = 100

// Recipients returns the addresses in the topmost of the named fields, in
// their order: those fields in which a server notes whom the envelope was
// for. What stands in any further one may be the sender's invention. Words
// that are no address pass if they could be a local part. A field with more
// than 100 (RFC 5321 §4.5.3.1.8) has none. header is as for Parse.
func Recipients(header []byte, names []string) []string {
	for _, value := range fields(header, func(name []byte) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, string(name)) })
	}) {
		var all []string
		for part := range strings.SplitSeq(string(value), ",") {
			addr, ok := address(part)
			if word := strings.Trim(part, " \t<>"); !ok && validWord(word, specials) {
				addr, ok = word, true
			}
			if ok && addr != "" && !slices.Contains(all, addr) {
				all = append(all, addr)
			}
			if len(all) > maxRecipients {
				return nil
			}
		}
		return all
	}
	return nil
}

// FolderData reports whether a header is that of no mail: at the beginning of an mbox
// UW IMAP and Dovecot keep what they know of it in the form of a message. A POP3 server
// that knows nothing of that gives it away as the first one. What a server received is
// mail, whatever its author wrote into it. header is as for Parse.
func FolderData(header []byte) bool {
	var imap, warns bool
	for name, value := range Fields(header) {
		switch strings.ToLower(name) {
		case "received":
			return false
		case "x-imap":
			imap = true
		case "subject":
			warns = strings.HasPrefix(strings.TrimSpace(value), "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA")
		}
	}
	return imap && warns
}

// Fields yields the names and the unfolded values of a header as they stand
// there. Lines end in CRLF or LF; what is no field is passed over. A last line
// without a line end is left out: it may have been cut.
func Fields(header []byte) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for name, value := range fields(header, func([]byte) bool { return true }) {
			if !yield(string(name), string(value)) {
				return
			}
		}
	}
}

// fields is Fields for those whose names are wanted, in bytes that are valid until
// the next. The others are passed over without a copy.
func fields(header []byte, want func(name []byte) bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		var unfolded []byte
		for {
			line, rest, whole := cutLine(header)
			if !whole || len(line) == 0 {
				return
			}
			header = rest
			name, value, ok := bytes.Cut(line, []byte(":"))
			// RFC 5322 §4.5: blanks may stand before the colon. "From " of an
			// mbox has blanks within its name and is no field.
			name = bytes.TrimRight(name, " \t")
			wanted := ok && len(name) > 0 && want(name) && !bytes.ContainsAny(name, " \t")
			unfolded = unfolded[:0]
			for isContinuation(header) {
				line, rest, whole = cutLine(header)
				if !whole {
					return
				}
				header = rest
				if !wanted {
					continue
				}
				if len(unfolded) == 0 {
					unfolded = append(unfolded, value...)
				}
				// RFC 5322 §4.2: a line of blanks only may be part of a
				// folded field. It adds nothing to it.
				if len(bytes.TrimSpace(line)) > 0 {
					unfolded = append(append(unfolded, ' '), line...)
				}
			}
			if len(unfolded) > 0 {
				value = unfolded
			}
			if wanted && !yield(name, value) {
				return
			}
		}
	}
}

// isContinuation reports whether the next line goes on with the last one (RFC 5322 §2.2.3).
func isContinuation(header []byte) bool {
	return len(header) > 0 && (header[0] == ' ' || header[0] == '\t')
}

// cutLine returns the first line without its line end, and whether it had one.
func cutLine(b []byte) (line, rest []byte, whole bool) {
	line, rest, whole = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest, whole
}
