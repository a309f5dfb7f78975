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

// messageHeader is what a person wants to know of a message's header, fit for a
// terminal.
type messageHeader struct {
	date          time.Time // zero if it cannot be read
	from, subject string
}

// maxHeaderBytes is how much of a header is looked at.
const maxHeaderBytes = 64 << 10

// readMessageHeader reads the header of a message.
func readMessageHeader(r io.Reader) messageHeader {
	raw, _ := io.ReadAll(io.LimitReader(r, maxHeaderBytes)) // what came before an error will do
	h := messageHeader{date: envelope.Parse(raw).Date}
	var from, subject bool
	for name, value := range envelope.Fields(raw) {
		switch {
		case !from && strings.EqualFold(name, "From"):
			h.from, from = senderName(value), true
		case !subject && strings.EqualFold(name, "Subject"):
			h.subject, subject = oneLine(decodeWords(value)), true
		}
	}
	return h
}

// senderName returns the name of whom a message is from, else the address.
func senderName(from string) string {
	parser := mail.AddressParser{WordDecoder: &encodedWords}
	list, err := parser.ParseList(from)
	if err != nil || len(list) == 0 {
		return oneLine(decodeWords(from))
	}
	if name := oneLine(list[0].Name); name != "" {
		return name
	}
	return oneLine(list[0].Address)
}

// encodedWords decodes what is not ASCII (RFC 2047), in any charset that
// browsers know: mail names charsets as loosely as pages do.
var encodedWords = mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return nil, err
	}
	return transform.NewReader(input, enc.NewDecoder()), nil
}}

// decodeWords returns text as it was meant, or as it is if that cannot be told.
func decodeWords(text string) string {
	if d, err := encodedWords.DecodeHeader(text); err == nil {
		return d
	}
	return text
}

// oneLine makes text of a message fit for a terminal, with single spaces.
func oneLine(text string) string { return clean(strings.Join(strings.Fields(text), " ")) }
