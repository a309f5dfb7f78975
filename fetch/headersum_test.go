package fetch_test

import (
	"crypto/sha256"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// The sum of a header is the same whether RETR or TOP gave it, and whatever fields of its
// own the server has added. It equals the sums that earlier versions have stored.
func TestHeaderSum(t *testing.T) {
	const id = "Message-ID: <1@example.net>\n"
	long := id + strings.Repeat("X-Long: "+strings.Repeat("x", 990)+"\n", 50)
	for name, test := range map[string]struct {
		header  string
		counted string // the part that is hashed; empty if the header tells the message from no other
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
			r.mustPoll()
			r.expectDelivered(raw)

			var want state.Sum
			if sum := sha256.Sum256([]byte(test.counted)); test.counted != "" {
				want = state.Sum(sum[:len(want)])
			}
			if got := r.rows()[0].Header; got != want {
				t.Errorf("the sum is %x, want %x", got, want)
			}
			r.drop.SetUIDs(func(int, string) string { return "new" })
			r.mustPoll()
			r.expectDelivered(raw)
			if downloads := r.retrievals(); (downloads > 1) != want.IsZero() {
				t.Errorf("it was downloaded %d times", downloads)
			}
		})
	}
}

// firstLine begins the header of messages of which TOP gives only this line.
const firstLine = "Received: from mx.example.org; today\n"

// firstLineOnly returns a reply to TOP that holds nothing but firstLine.
func firstLineOnly(string) string {
	return "+OK\r\n" + strings.TrimSuffix(firstLine, "\n") + "\r\n\r\n.\r\n"
}

// alterTOP has the server pass its replies to TOP through reply.
func alterTOP(t *testing.T, reply func(string) string) pop3test.Fault {
	return pop3test.On("TOP", func(x *pop3test.Exchange) {
		x.Act()
		all, err := io.ReadAll(x.Reply)
		check(t, err)
		x.Reply = strings.NewReader(reply(string(all)))
	})
}

// Where TOP gives less of a header than RETR, or more, messages without a unique-id are
// compared by their content. None is delivered twice, and none is taken for another that
// begins alike.
func TestTOPDiffersFromRETR(t *testing.T) {
	more := func(header string) string { return strings.Replace(header, "\r\n", "\r\nX-Preview: yes\r\n", 1) }
	for name, test := range map[string]struct {
		without string
		top     func(header string) string
		refused string
		brief   int // the number of a message whose whole header is firstLine, or -1
	}{
		"less":                            {"UIDL", firstLineOnly, "nothing", -1},
		"less, which is all of the first": {"UIDL", firstLineOnly, "nothing", 0},
		"less, which is all of a later":   {"UIDL", firstLineOnly, "nothing", 2},
		"more":                            {"UIDL", more, "nothing", -1},
		"less, blank unique-ids":          {"", firstLineOnly, "nothing", -1},
		"less, no deletion is confirmed":  {"UIDL", firstLineOnly, "QUIT", -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{Without: []string{test.without}})
			r.account.Keep.Forever = test.refused != "QUIT"
			r.drop.Order(pop3test.ReplyErr(test.refused, "no"), alterTOP(t, test.top))
			var want []string
			for i := range 6 {
				raw := firstLine + message(i)
				if i == test.brief {
					raw = firstLine + "\nbrief\n"
				}
				want = append(want, raw)
				uid := strconv.Itoa(i)
				if test.without == "" {
					uid = ""
				}
				r.drop.Add(uid, []byte(want[i]))
				if i == 4 {
					r.drop.Remove("0")
				}
				r.poll()
				r.advance(day)
			}
			for range 2 * fetch.Remembered / day { // until the first message is forgotten
				r.poll()
				r.advance(day)
			}
			r.poll()
			r.expectDelivered(want...)
		})
	}
}

// Where TOP gives less of a header than RETR, a refused message and one that landed are
// not mistaken for each other, though they begin alike.
func TestRefusedWhereTOPDiffers(t *testing.T) {
	for poison := range 4 {
		for _, together := range []bool{false, true} {
			r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
			r.account.Keep.Forever = true
			home := r.account.Deliver[0].Sink
			r.account.Deliver[0].Sink = poisonRefuser{home, false}
			r.drop.Order(alterTOP(t, firstLineOnly))
			var want []string
			for i := range 4 {
				raw := firstLine + message(i)
				if i == poison {
					raw = firstLine + "Subject: a poison\n\n"
				}
				want = append(want, raw)
				r.drop.Add(strconv.Itoa(i), []byte(raw))
				if !together {
					r.poll()
				}
			}
			for range 5 {
				r.poll()
				r.advance(day)
			}
			r.expectDelivered(slices.Delete(slices.Clone(want), poison, poison+1)...)
			if rows := r.rows(); len(rows) != len(want) {
				t.Errorf("message %d is refused, together %v: %d rows", poison, together, len(rows))
			}
			r.account.Deliver[0].Sink = home
			for range 2 {
				r.poll()
				r.advance(day)
			}
			r.expectDelivered(want...)
		}
	}
}

// Where TOP gives less of a header than RETR, an adopted message is known by that, and a
// new one that begins alike is fetched.
func TestAdoptedWhereTOPDiffers(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
	r.account.Keep.Forever = true
	r.drop.Order(alterTOP(t, firstLineOnly))
	r.fill(3)
	r.adopt()
	var want []string
	for i := range 3 {
		want = append(want, firstLine+message(10+i))
		r.drop.Add(strconv.Itoa(10+i), []byte(want[i]))
		r.poll()
		r.advance(day)
	}
	r.expectDelivered(want...)
}

// Where nothing tells a kept message from a new one, none is fetched: each poll would
// fetch all of them again.
func TestKeptWithoutIdentity(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
		r.account.Keep.Forever, r.opts.KeepAll = !all, all
		r.fill(1)
		if s := r.poll(); s.Class != fetch.ClassOperator {
			t.Errorf("of all mail %v: %v: %v", all, s.Class, s.Err)
		}
		r.expectDelivered()
	}
}
