package fetch_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// A header has one sum whoever gives it: RETR, TOP, which leaves the body out, or
// a server that has put its own fields in. And it is the sum that earlier versions
// have left in the rows.
func TestHeaderSum(t *testing.T) {
	const id = "Message-ID: <1@example.net>\n"
	long := id + strings.Repeat("X-Long: "+strings.Repeat("x", 990)+"\n", 50)
	for name, test := range map[string]struct {
		header  string
		counted string // empty: it tells the message from no other
	}{
		"a Message-ID":            {id + "Subject: a longer line\n", id + "Subject: a longer line\n"},
		"a Received":              {"received: from a by b; today\n", "received: from a by b; today\n"},
		"neither":                 {"Subject: alarm\n", ""},
		"names like theirs":       {"Message: 1\nReceive: 2\nX-Message-ID: 3\n", ""},
		"short lines":             {"To: a\nCc: b\n" + id, "To: a\nCc: b\n" + id},
		"lines that go on":        {id + "To: a,\n b,\n\tc\n", id + "To: a,\n b,\n\tc\n"},
		"the server's own fields": {"Status: RO\nX-UIDL: 1\n" + id + "X-STATUS: A\nTo: a\n", id + "To: a\n"},
		"fields that look so":     {"Status-of: 1\nX-UIDLs: 2\nStatus\n" + id, "Status-of: 1\nX-UIDLs: 2\nStatus\n" + id},
		"longer than one read":    {long, long},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			r.account.Keep.Forever = true
			raw := test.header + "\n" + id + "is here no field, nor is\nStatus: this, which is a line of the body\n"
			r.drop.Add("u", []byte(raw))
			r.succeed()
			r.expect(raw)

			var want state.Sum
			if sum := sha256.Sum256([]byte(test.counted)); test.counted != "" {
				want = state.Sum(sum[:len(want)])
			}
			if got := r.rows()[0].Header; got != want {
				t.Errorf("the sum is %x, want %x", got, want)
			}
			r.drop.SetUIDs(func(int, string) string { return "new" })
			r.succeed()
			r.expect(raw)
			if downloads := r.retrieved(); (downloads > 1) != want.IsZero() {
				t.Errorf("it was downloaded %d times", downloads)
			}
		})
	}
}
