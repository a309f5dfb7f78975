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

// firstLine begins the header of messages that TOP gives less of.
const firstLine = "Received: from mx.example.org; today\n"

// less leaves no more of a reply to TOP than firstLine.
func less(string) string { return "+OK\r\n" + strings.TrimSuffix(firstLine, "\n") + "\r\n\r\n.\r\n" }

// byTOP has the server reply to TOP what becomes of its reply.
func byTOP(t *testing.T, reply func(string) string) pop3test.Fault {
	return pop3test.On("TOP", func(x *pop3test.Exchange) {
		x.Act()
		all, err := io.ReadAll(x.Reply)
		check(t, err)
		x.Reply = strings.NewReader(reply(string(all)))
	})
}

// Where TOP gives less of a header than RETR does, or more, messages without a unique-id
// are told by their content: none is delivered twice, and none is taken for another that
// begins alike.
func TestHeaderOfTOPAlone(t *testing.T) {
	more := func(header string) string { return strings.Replace(header, "\r\n", "\r\nX-Preview: yes\r\n", 1) }
	for name, test := range map[string]struct {
		without string
		top     func(header string) string
		refused string
		brief   int // a message that has no more of a header than TOP gives
	}{
		"less":                            {"UIDL", less, "nothing", -1},
		"less, which is all of the first": {"UIDL", less, "nothing", 0},
		"less, which is all of a later":   {"UIDL", less, "nothing", 2},
		"more":                            {"UIDL", more, "nothing", -1},
		"less, blank unique-ids":          {"", less, "nothing", -1},
		"less, no deletion is confirmed":  {"UIDL", less, "QUIT", -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{Without: []string{test.without}})
			r.account.Keep.Forever = test.refused != "QUIT"
			r.drop.Order(pop3test.ReplyErr(test.refused, "no"), byTOP(t, test.top))
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
				r.later(day)
			}
			for range 2 * fetch.Remembered / day { // until the first of them is forgotten
				r.poll()
				r.later(day)
			}
			r.poll()
			r.expect(want...)
		})
	}
}

// Nor is what landed taken for what was refused, and begins alike.
func TestRefusedByHeaderOfTOPAlone(t *testing.T) {
	for poison := range 4 {
		for _, together := range []bool{false, true} {
			r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
			r.account.Keep.Forever = true
			home := r.account.Deliver[0].Sink
			r.account.Deliver[0].Sink = picky{home, false}
			r.drop.Order(byTOP(t, less))
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
				r.later(day)
			}
			r.expect(slices.Delete(slices.Clone(want), poison, poison+1)...)
			if rows := r.rows(); len(rows) != len(want) {
				t.Errorf("message %d is refused, together %v: %d rows", poison, together, len(rows))
			}
			r.account.Deliver[0].Sink = home
			for range 2 {
				r.poll()
				r.later(day)
			}
			r.expect(want...)
		}
	}
}

// What was adopted is known by nothing else.
func TestAdoptedByHeaderOfTOPAlone(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
	r.account.Keep.Forever = true
	r.drop.Order(byTOP(t, less))
	r.fill(3)
	r.adopt()
	var want []string
	for i := range 3 {
		want = append(want, firstLine+message(10+i))
		r.drop.Add(strconv.Itoa(10+i), []byte(want[i]))
		r.poll()
		r.later(day)
	}
	r.expect(want...)
}

// Where nothing tells a message that is kept from a new one, none is fetched, or it would
// be at each poll.
func TestKeptWithoutIdentity(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
		r.account.Keep.Forever, r.opts.KeepAll = !all, all
		r.fill(1)
		if s := r.poll(); s.Class != fetch.ClassOperator {
			t.Errorf("of all mail %v: %v: %v", all, s.Class, s.Err)
		}
		r.expect()
	}
}
