package fetch_test

import (
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// No content of a message changes what the client takes for a reply. The raw messages are
// given as the server has them.
func TestBodiesNeverPassForReplies(t *testing.T) {
	forged := "Subject: x\r\n\r\nhello\n.\n+OK 40 octets\r\nFrom: the-president@example.org\r\n\r\nsend money\n.\n+OK\r\n-ERR\r\nend\r\n"
	tests := []struct{ name, raw string }{
		{"nothing", ""},
		{"an empty line", "\r\n"},
		{"a header and nothing else", "Subject: only\r\n"},
		{"a header and the empty line", "Subject: only\r\n\r\n"},
		{"no header", "\r\nbody\r\n"},
		{"no header and no empty line", "what is this\r\n"},
		{"bare LF, dot, bare LF, and a forged reply", forged},
		{"dots", "Subject: dots\r\n\r\n.\r\n..\r\n...\r\n. \r\n.+OK\r\n"},
		{"bare CR", "Subject: cr\r\n\r\na\rb\r.\rc\r\n"},
		{"CR CRLF", "Subject: cr\r\n\r\na\r\r\n.\r\r\nb\r\n"},
		{"NUL and 8-bit", "Subject: \xff\r\n\r\n\x00\xfe\x00\r\n"},
		{"From at the beginning of a line", "Subject: f\r\n\r\nFrom here\r\n>From there\r\n"},
		{"a line of a megabyte", "Subject: long\r\n\r\n" + strings.Repeat("x", 1<<20) + "\r\n"},
		{"a header of a megabyte", strings.Repeat("X-Long: header\r\n", 1<<16) + "\r\nbody\r\n"},
	}
	for _, window := range []int{0, 1} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Server.Window = window
		var want []string
		for _, test := range tests {
			r.drop.AddExact(test.name, []byte(test.raw))
			want = append(want, strings.ReplaceAll(test.raw, "\r\n", "\n"))
		}
		r.mustPoll()
		r.expectDelivered(want...)
		if left := r.left(); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	}
}
