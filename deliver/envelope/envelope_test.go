package envelope_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/envelope"
)

func TestSender(t *testing.T) {
	for _, tc := range []struct{ name, header, want string }{
		{"return path first", "From: a@x\r\nSender: b@x\r\nReturn-Path: <c@x>\r\n\r\n", "c@x"},
		{"sender before from", "From: a@x\nSender: b@x\n\n", "b@x"},
		{"null path is final", "Return-Path: <>\nFrom: a@x\n\n", ""},
		{"null path with blanks", "Return-Path: < >\nFrom: a@x\n\n", ""},
		{"topmost counts", "From: a@x\nFrom: b@x\n\n", "a@x"},
		{"display name", "From: \"Doe, J. <x@y>\" <j@example.org>\n\n", "j@example.org"},
		{"comment", "From: j@example.org (J <x@y> Doe)\n\n", "j@example.org"},
		{"comment first", "From: (x@y) j@example.org\n\n", "j@example.org"},
		{"open quote", "From: \"J <j@example.org>\n\n", "j@example.org"},
		{"list", "From: a@x, b@x\n\n", "a@x"},
		{"group", "From: undisclosed-recipients:;\n\n", ""},
		{"folded", "From: J\r\n\t<j@example.org>\r\n\r\n", "j@example.org"},
		{"source route", "Return-Path: <@a,@b:c@d>\n\n", "c@d"},
		{"quoted local part", "From: <\"j.d\"@x>\n\n", "\"j.d\"@x"},
		{"blank in local part", "Return-Path: <\"j d\"@x>\nFrom: a@x\n\n", "a@x"},
		{"address literal", "From: <j@[192.0.2.1]>\n\n", "j@[192.0.2.1]"},
		{"utf-8", "From: <jürgen@bücher.example>\n\n", "jürgen@bücher.example"},
		{"latin-1", "From: <j\xfcrgen@x>\n\n", ""},
		{"bare cr", "From: <a\rb@x>\n\n", ""},
		{"nul", "From: <a\x00@x>\n\n", ""},
		{"no domain", "Return-Path: <root>\nFrom: a@x\n\n", "a@x"},
		{"any case, blank before colon", "fRoM : a@x\n\n", "a@x"},
		{"after an mbox line", "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\nFrom: a@x\n\n", "a@x"},
		{"after a line that is no field", "hello there: x\nFrom: a@x\n\n", "a@x"},
		{"body is no header", "Subject: x\n\nFrom: a@x\n\n", ""},
		{"empty header", "\r\nFrom: a@x\r\n", ""},
		{"nothing", "", ""},
		{"cut in a line", "From: alice@exam", ""},
		{"cut in a folded field", "From: Alice\n <alice@exam", ""},
		{"cut after a field", "From: a@x\n", "a@x"},
		{"long line before", "X: " + strings.Repeat("x", 1<<20) + "\nFrom: a@x\n\n", "a@x"},
		{"long address", "From: " + strings.Repeat("x", 400) + "@x\n\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := envelope.Parse([]byte(tc.header)).Sender; got != tc.want {
				t.Errorf("Parse(%.80q).Sender = %q, want %q", tc.header, got, tc.want)
			}
		})
	}
}

// The expected results are those of Postfix.
func TestValidMailbox(t *testing.T) {
	long := strings.Repeat("x", 63)
	name := strings.Repeat(long+".", 3) // 192 octets
	for want, addresses := range map[bool][]string{
		true: {
			"a@b", "a@b.c.", "a@b.1", "a@1.b", "a@x_y.org", "a@_x.org", "a@x_.org", "a@ab--cd.org",
			"a@[1.2.3.4]", "a@[IPv6:::1]", "a@[ipv6:1::2:3]", "a-@b.c", "a..b@c", ".a@b.c", `"a"@b.c`,
			"a@" + long + ".org", "a@" + name + long, "é@b.c", "a@é.org", "a@" + strings.Repeat("ж", 50) + ".org",
		},
		false: {
			"a@b..c", "a@.b", "a@.", "a@b.c..", "a@-b.c", "a@b-.c", "a@b.-c", "a@b.c-", "a@-é.org", "a@é-.org",
			"a@1.2.3.4", "a@1", "a@[foo]", "a@[1.2.3]", "a@[256.1.1.1]", "a@[::1]", "a@[IPv6:1.2.3.4]", "a@[IPv6:fe80::1%eth0]",
			"a@x" + long + ".org", "a@" + name + long + ".org", "a@" + strings.Repeat("ж", 60) + ".org",
			"-a@b.c", "-@b.c", `"-a"@b.c`, "a", "a b@c", "",
		},
	} {
		for _, s := range addresses {
			if got := envelope.ValidMailbox(s); got != want {
				t.Errorf("ValidMailbox(%q) = %v", s, got)
			}
		}
	}
}

func TestDate(t *testing.T) {
	const want = "2006-01-02T15:04:05Z"
	for _, tc := range []struct{ name, header, want string }{
		{"date", "Date: Mon, 2 Jan 2006 16:04:05 +0100\n\n", want},
		{"received before date", "Date: Tue, 3 Jan 2006 16:04:05 +0100\nReceived: by x; Mon, 2 Jan 2006 10:04:05 -0500 (EST)\n\n", want},
		{"topmost received", "Received: by x; Mon, 2 Jan 2006 15:04:05 +0000\nReceived: by y; Sun, 1 Jan 2006 15:04:05 +0000\n\n", want},
		{"folded received", "Received: from a (a;b)\r\n\tby x;\r\n\tMon, 2 Jan 2006\r\n\t15:04:05 GMT\r\n\r\n", want},
		{"broken received", "Received: by x\nDate: Mon, 2 Jan 2006 15:04:05 GMT\n\n", want},
		{"two-digit year", "Date: Mon, 2 Jan 06 15:04:05 GMT\n\n", want},
		{"zone name", "Date: Mon, 2 Jan 2006 10:04:05 EST\n\n", want},
		{"unknown zone is UTC", "Date: Mon, 2 Jan 2006 15:04:05 XYZ\n\n", want},
		{"no zone", "Date: 2 Jan 2006 15:04:05\n\n", want},
		{"comments", "Date: (a) Mon, 2 Jan 2006 (b (c)) 15:04:05 -0000 (UTC)\n\n", want},
		{"asctime", "Date: Mon Jan  2 15:04:05 2006\n\n", want},
		{"half-hour zone", "Date: Mon, 2 Jan 2006 20:34:05 +0530\n\n", want},
		{"no weekday, no seconds", "Date: 2 Jan 2006 15:04 +0000\n\n", "2006-01-02T15:04:00Z"},
		{"last century", "Date: Fri, 2 Jan 98 15:04:05 +0000\n\n", "1998-01-02T15:04:05Z"},
		{"leap second", "Date: Sat, 31 Dec 2005 23:59:60 +0000\n\n", "2006-01-01T00:00:00Z"},
		{"no such day", "Date: Fri, 31 Feb 2006 15:04:05 +0000\n\n", ""},
		{"no such hour", "Date: Mon, 2 Jan 2006 25:04:05 +0000\n\n", ""},
		{"no time", "Date: Mon, 2 Jan 2006\n\n", ""},
		{"words", "Date: yesterday\n\n", ""},
		{"empty", "Date:\n\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if d := envelope.Parse([]byte(tc.header)).Date; !d.IsZero() {
				got = d.UTC().Format(time.RFC3339)
			}
			if got != tc.want {
				t.Errorf("Parse(%q).Date = %q, want %q", tc.header, got, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("Return-Path: <a@x>\r\nReceived: by x;\r\n Mon, 2 Jan 06 15:04:05 EST (x)\r\nFrom: \"q\\\" <\" (c) <b@x>\r\n\r\n"))
	f.Add([]byte("From: a@x"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		e := envelope.Parse(header)
		if strings.ContainsAny(e.Sender, "\r\n\x00 \t<>") {
			t.Errorf("Parse(%q).Sender = %q", header, e.Sender)
		}
		// What Parse lets through must survive Trace.
		trace := string(envelope.Trace(envelope.Hop{ReturnPath: true, Sender: e.Sender}))
		if !strings.HasPrefix(trace, "Return-Path: <"+e.Sender+">\r\n") {
			t.Errorf("Trace of sender %q = %q", e.Sender, trace)
		}
	})
}

func TestRecipients(t *testing.T) {
	names := []string{"X-Envelope-To", "Delivered-To"}
	for _, test := range []struct {
		header string
		want   []string
	}{
		{"Delivered-To: a@example.org\r\nX-Envelope-To: b@example.org\r\n", []string{"a@example.org"}},
		{"Received: x\ndelivered-to:\n  <A@Example.Org>,\n\tb\nTo: c@example.org\n", []string{"A@Example.Org", "b"}},
		{"X-Envelope-To: a@example.org, a@example.org, not an address, <>\n", []string{"a@example.org"}},
		{"To: a@example.org\n\nDelivered-To: b@example.org\n", nil},
		{"Delivered-To:\nX-Envelope-To: b@example.org\n", nil},
		{"X-Envelope-To: " + strings.Repeat("a,", 30) + many(101) + "\n", nil},
		{"Delivered-To: a@exam", nil},
	} {
		if got := envelope.Recipients([]byte(test.header), names); !slices.Equal(got, test.want) {
			t.Errorf("Recipients of %.80q = %q, want %q", test.header, got, test.want)
		}
	}
}

// many returns a list of n addresses.
func many(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("u%d@example.org", i))
	}
	return strings.Join(list, ", ")
}

// BenchmarkParse reads the envelopes of real messages.
func BenchmarkParse(b *testing.B) {
	names, err := filepath.Glob("../../testdata/messages/*.eml")
	if err != nil || len(names) == 0 {
		b.Fatal("no messages:", err)
	}
	var headers [][]byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		headers = append(headers, text)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		envelope.Parse(headers[i%len(headers)])
	}
}

func TestFolderData(t *testing.T) {
	const subject = "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
	for header, want := range map[string]bool{
		"X-IMAP: 1 2 $Forwarded\n" + subject + "\n":                                        true,
		"x-imap: 1 2\r\nSUBJECT:DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r\n\r\n": true,
		subject + "\nX-IMAP: 1 2\n":                                                        false,
		"X-IMAP: 1 2\n\n" + subject:                                                        false,
		"Received: from a by b; today\nX-IMAP: 1 2\n" + subject + "\n":                     false,
		"X-IMAPbase: 1 2\n" + subject + "\n":                                               false,
		"X-IMAP: 1 2\nSubject: hello\n\n":                                                  false,
		"X-IMAP: 1 2\nX-" + subject + "\n":                                                 false,
		"X-IMAP: 1 2\nSubject: Fwd: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\n": false,
		"": false,
	} {
		if got := envelope.FolderData([]byte(header)); got != want {
			t.Errorf("FolderData(%q) = %v", header, got)
		}
	}
}
