package main

import (
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"

	"github.com/mailhaul/mailhaul/deliver/envelope"
)

// messageHeader holds the header fields that mailhaul list shows, fit for a terminal.
type messageHeader struct {
	date          time.Time // zero if it cannot be read
	from, subject string
}

// maxHeaderBytes bounds how much of a header is read.
const maxHeaderBytes = 64 << 10

// readMessageHeader parses the header of a message. A header that is cut off or malformed
// yields what can be read.
func readMessageHeader(r io.Reader) messageHeader {
	raw, _ := io.ReadAll(io.LimitReader(r, maxHeaderBytes)) // what comes before an error is used
	h := messageHeader{date: envelope.Parse(raw).Date}
	var from, subject bool
	for name, value := range envelope.Fields(raw) {
		switch {
		case !from && strings.EqualFold(name, "From"):
			h.from, from = senderName(value), true
		case !subject && strings.EqualFold(name, "Subject"):
			h.subject, subject = collapseBlanks(decodeWords(value)), true
		}
	}
	return h
}

// senderName returns the name of the first sender in a From field, else the address, else
// the field as it is.
func senderName(from string) string {
	parser := mail.AddressParser{WordDecoder: &encodedWords}
	list, err := parser.ParseList(from)
	if err != nil || len(list) == 0 {
		return collapseBlanks(decodeWords(from))
	}
	if name := collapseBlanks(list[0].Name); name != "" {
		return name
	}
	return collapseBlanks(list[0].Address)
}

// encodedWords decodes RFC 2047 encoded words in any charset that browsers know, under
// the names that browsers accept: mail is as loose in these as web pages are.
var encodedWords = mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return nil, err
	}
	return transform.NewReader(input, enc.NewDecoder()), nil
}}

// decodeWords decodes the encoded words in text, and returns text as it is if that fails.
func decodeWords(text string) string {
	if d, err := encodedWords.DecodeHeader(text); err == nil {
		return d
	}
	return text
}

// collapseBlanks makes text from a message fit for a line on a terminal, with single spaces.
func collapseBlanks(text string) string { return clean(strings.Join(strings.Fields(text), " ")) }
