package main

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

// readMessageHeader decodes the fields that list shows, and makes them harmless for a
// terminal.
func TestReadMessageHeader(t *testing.T) {
	date := time.Date(2026, 11, 28, 15, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		header string
		want   messageHeader
	}{
		"plain":    {"From: Ada <ada@example.org>\r\nSubject: hi\r\nDate: Sat, 28 Nov 2026 16:00:00 +0100\r\n\r\n", messageHeader{date, "Ada", "hi"}},
		"encoded":  {"From: =?iso-8859-1?q?J=F6rg?= <j@example.org>\nSubject: =?gb2312?b?xOO6ww==?=\n =?utf-8?q?!?=\n\n", messageHeader{from: "Jörg", subject: "你好!"}},
		"address":  {"From: ada@example.org\n\n", messageHeader{from: "ada@example.org"}},
		"several":  {"From: Ada <a@example.org>, Bob <b@example.org>\n\n", messageHeader{from: "Ada"}},
		"no list":  {"From: undisclosed @@ senders\n\n", messageHeader{from: "undisclosed @@ senders"}},
		"unknown":  {"Subject: =?x-none?q?hi?=\n\n", messageHeader{subject: "=?x-none?q?hi?="}},
		"nothing":  {"\r\n", messageHeader{}},
		"none":     {"", messageHeader{}},
		"terminal": {"Subject: =?utf-8?q?=1B]0;title=07=C2=9B2J=E2=80=AEtxt.exe?=\n\n", messageHeader{subject: "?]0;title??2Jtxt.exe"}},
		"8 bit":    {"Subject: caf\xe9\n\n", messageHeader{subject: "caf?"}},
		"twice":    {"Subject: one\nSubject: two\n\n", messageHeader{subject: "one"}},
	} {
		got := readMessageHeader(strings.NewReader(test.header))
		if !got.date.Equal(test.want.date) || got.from != test.want.from || got.subject != test.want.subject {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

// Of a message header, only one line of printable text reaches a terminal.
func FuzzReadMessageHeader(f *testing.F) {
	f.Add("From: =?utf-8?q?=1B[2J?= <a@b>\nSubject: =?utf-8?b?4oCu?=\n x\n\n")
	f.Add("Subject: =?utf-7?q?+ABs-?= =?iso-2022-jp?b?GyRC?=\n\n")
	f.Fuzz(func(t *testing.T, header string) {
		h := readMessageHeader(strings.NewReader(header))
		for _, text := range []string{h.from, h.subject} {
			for _, r := range text {
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
					t.Errorf("%q from %q", text, header)
				}
			}
		}
	})
}
