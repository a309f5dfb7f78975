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

// heading is what a person wants to know of a message's header, fit for a
// terminal.
type heading struct {
	date          time.Time // zero if it cannot be read
	from, subject string
}

// longestHeader is how much of a header is looked at.
const longestHeader = 64 << 10

// readHeading reads the header of a message.
func readHeading(r io.Reader) heading {
	raw, _ := io.ReadAll(io.LimitReader(r, longestHeader)) // what came before an error will do
	h := heading{date: envelope.Parse(raw).Date}
	var from, subject bool
	for name, value := range envelope.Fields(raw) {
		switch {
		case !from && strings.EqualFold(name, "From"):
			h.from, from = author(value), true
		case !subject && strings.EqualFold(name, "Subject"):
			h.subject, subject = oneLine(decoded(value)), true
		}
	}
	return h
}

// author returns the name of whom a message is from, else the address.
func author(from string) string {
	parser := mail.AddressParser{WordDecoder: &encodedWords}
	list, err := parser.ParseList(from)
	if err != nil || len(list) == 0 {
		return oneLine(decoded(from))
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

// decoded returns text as it was meant, or as it is if that cannot be told.
func decoded(text string) string {
	if d, err := encodedWords.DecodeHeader(text); err == nil {
		return d
	}
	return text
}

// oneLine makes text of a message fit for a terminal, with single spaces.
func oneLine(text string) string { return clean(strings.Join(strings.Fields(text), " ")) }
