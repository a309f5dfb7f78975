// Package envelope reads the envelope of a message from its header, and makes the trace
// fields that are put before a message that is delivered. It does no I/O.
//
// envelope.go has the envelope and the fields of a header, address.go the addresses, date.go
// the dates, and trace.go the trace fields.
package envelope

import (
	"bytes"
	"iter"
	"slices"
	"strings"
	"time"
)

// Envelope is what a header says about how the message came here.
type Envelope struct {
	// Sender is the envelope sender: the first valid address of Return-Path, Sender and
	// From, in this order. It has no blanks and no control characters. It is empty for the
	// null sender, or if there is no valid address.
	Sender string
	// ReturnPath reports whether there is a Return-Path field, even with an invalid address.
	ReturnPath bool
	// Date is the date of the first Received field, or else that of Date. It is not
	// checked, and may be in any year. It is zero if neither is valid.
	Date time.Time
}

// Parse reads an envelope from the beginning of a message. header may end anywhere, contain
// part of the body, or be no header at all. Lines end in CRLF or LF. What is not valid is
// skipped.
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

	e := Envelope{ReturnPath: found[returnPathField]}
	// RFC 5321 §4.4: the date is after the last semicolon.
	if i := strings.LastIndexByte(values[receivedField], ';'); i >= 0 {
		e.Date = parseDate(values[receivedField][i+1:])
	}
	if e.Date.IsZero() {
		e.Date = parseDate(values[dateField])
	}
	for _, i := range []int{returnPathField, senderField, fromField} {
		if addr, ok := address(values[i]); ok {
			e.Sender = addr
			break
		}
	}
	return e
}

// These are the indexes of envelopeFields.
const (
	receivedField = iota
	dateField
	returnPathField
	senderField
	fromField
)

// envelopeFields are the names of the fields that Parse reads.
var envelopeFields = [...]string{
	receivedField:   "received",
	dateField:       "date",
	returnPathField: "return-path",
	senderField:     "sender",
	fromField:       "from",
}

// envelopeFieldIndex returns the index of a name in envelopeFields, or -1.
func envelopeFieldIndex(name []byte) int {
	for i, field := range envelopeFields {
		if len(name) == len(field) && strings.EqualFold(string(name), field) {
			return i
		}
	}
	return -1
}

// maxRecipients is how many recipients a field may have, as many as a transaction of SMTP
// (RFC 5321 §4.5.3.1.8).
const maxRecipients = 100

// Recipients returns the addresses in the first field that has one of the names. They are
// the names of fields in which a server writes the recipients of the envelope. Later fields
// of these names do not count: the sender may have written them. A word that is a valid
// local part counts as an address. Recipients returns none if the field has more than 100.
// header is as for Parse.
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

// FolderData reports whether a message is no mail, but the internal data of a folder: UW IMAP
// and Dovecot store these in the form of a message at the beginning of an mbox. A POP3 server
// that does not know of them sends them as the first message. A message with a Received
// field is always mail, whatever else its author wrote into it. header is as for Parse.
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

// Fields yields the names and the unfolded values of the fields of a header. Lines end in
// CRLF or LF. What is no field is skipped. So is a field that ends without a line end: it may
// have been cut.
func Fields(header []byte) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for name, value := range fields(header, func([]byte) bool { return true }) {
			if !yield(string(name), string(value)) {
				return
			}
		}
	}
}

// fields is Fields for the names for which want returns true. The slices are valid until the
// next field. The other fields are skipped without a copy.
func fields(header []byte, want func(name []byte) bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		var unfolded []byte
		for {
			line, rest, whole := cutLine(header)
			if !whole || len(line) == 0 {
				return
			}
			header = rest
			name, value, ok := cutName(line)
			wanted := ok && want(name)
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
				// RFC 5322 §4.2: a line of blanks may be part of a folded
				// field. It adds nothing to the value.
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

// cutName splits the first line of a field at the colon. ok is false if it is no field.
func cutName(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte(":"))
	// RFC 5322 §4.5: there may be blanks before the colon. The From_ line of an mbox has
	// blanks within what would be its name, and is no field.
	name = bytes.TrimRight(name, " \t")
	return name, value, ok && len(name) > 0 && !bytes.ContainsAny(name, " \t")
}

// isContinuation reports whether the next line continues the last one (RFC 5322 §2.2.3).
func isContinuation(header []byte) bool {
	return len(header) > 0 && (header[0] == ' ' || header[0] == '\t')
}

// cutLine returns the first line without its line end, and whether it had one.
func cutLine(b []byte) (line, rest []byte, whole bool) {
	line, rest, whole = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest, whole
}
