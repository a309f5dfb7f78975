package fetch_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// oddUIDs are unique-ids that servers give, and some that they must not give.
var oddUIDs = []struct {
	name string
	uids []string
}{
	{"duplicates", []string{"a", "b", "a", "a", "c"}},
	{"nothing but duplicates", []string{"a", "a"}},
	{"one blank", []string{"a", "", "b"}},
	{"all blank", []string{"", "", ""}},
	{"90 characters", []string{strings.Repeat("x", 89) + "1", strings.Repeat("x", 89) + "2"}},
	{"too long to be used", []string{strings.Repeat("x", 1999) + "1", strings.Repeat("x", 1999) + "2", "a"}},
	{"spaces", []string{"a b", "a  b", "a b c", "a"}},
	{"8-bit", []string{"\xff\xfe", "\xe9", "é", "日本"}},
	{"like paths", []string{"../../etc/passwd", "/", "..", ".", "a/b", "a\\b", "C:"}},
	{"control characters", []string{"a\tb", "a\x1b[31mb", "a\x7f"}},
	{"like numbers", []string{"1", "01", "2", "-1"}},
	{"one in two cases", []string{"AbC", "aBc"}},
	{"like SQL and formats", []string{"'; DROP TABLE messages; --", "%s%n", "\"", "*"}},
}

// Whatever the unique-ids are like, each message is delivered once, is not downloaded
// again while it is kept, and is deleted when it is due.
func TestOddUIDs(t *testing.T) {
	for _, test := range oddUIDs {
		for _, without := range [][]string{nil, {"PIPELINING"}, {"UIDL"}} {
			t.Run(fmt.Sprint(test.name, " without ", without), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, pop3test.Behaviour{Without: without})
				r.account.Keep.Forever = true
				var want []string
				for i, uid := range test.uids {
					r.drop.Add(uid, []byte(message(i)))
					want = append(want, message(i))
				}
				for range 3 {
					r.mustPoll()
					r.expectDelivered(want...)
				}

				// A new message behind the known ones, and a known one has gone.
				r.drop.Remove(test.uids[0])
				r.drop.Add("new", []byte(message(99)))
				r.mustPoll()
				want = append(want, message(99))
				r.expectDelivered(want...)

				r.account.Keep = fetch.Keep{}
				r.mustPoll()
				r.expectDelivered(want...)
				r.expectMaildropEmpty()
				r.expectRetrieved(len(want))
			})
		}
	}
}

// Without UIDL and TOP, and where mail is not to be kept, no message is delivered twice,
// even if the server does not delete.
func TestNothingTwiceWithoutUIDAndTOP(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	var want []string
	// Three bodies under one header, one of them twice.
	for _, body := range []string{"one", "two", "three", "two"} {
		raw := "Subject: cron\n\n" + body + "\n"
		r.drop.Add("x", []byte(raw))
		want = append(want, raw)
	}
	r.drop.Order(pop3test.ReplyErr("QUIT", "no").Session(1, 2))
	for _, class := range []fetch.Class{fetch.ClassRetry, fetch.ClassRetry, fetch.ClassFine} {
		if s := r.poll(); s.Class != class {
			t.Errorf("%v, want %v: %v", s.Class, class, s.Err)
		}
		r.expectDelivered(want...)
	}
	if left := r.left(); len(left) != 0 {
		t.Errorf("left %d", len(left))
	}
}

// A server without TOP gave a message a blank unique-id. Where mail is kept, that message
// is left alone and a person is called; the others are fetched.
func TestBlankUIDWithoutTOPNeedsPerson(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep.Forever = true
	r.drop.Add("", []byte(message(1)))
	r.drop.Add("a", []byte(message(2)))
	for range 2 { // until a person changes the configuration
		s := r.poll()
		r.expectDelivered(message(2))
		if said := r.reportText(s); s.Class != fetch.ClassOperator || s.Schedule.Failures > 0 || !strings.Contains(said, "1 message has no unique-id") {
			t.Errorf("%v: it says %q", s.Class, said)
		}
	}
	r.account.Keep = fetch.Keep{}
	r.mustPoll()
	r.expectDelivered(message(1), message(2))
}

// A server may reuse the unique-id of a deleted message, as qpopper and others do against
// RFC 1939 §7. The new message is fetched.
func TestUIDReuse(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("u", []byte(message(1)))
	r.mustPoll()
	r.drop.Add("u", []byte(message(2)))
	r.mustPoll()
	r.expectDelivered(message(1), message(2))
	r.expectMaildropEmpty()
}

// A new message with the unique-id of a deleted one is fetched once, though mail is kept by
// then.
func TestUIDReuseWhileKept(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("u", []byte(message(1)))
	r.mustPoll()
	r.account.Keep.Forever = true
	r.drop.Add("u", []byte(message(2)))
	for range 3 {
		r.mustPoll()
		r.expectDelivered(message(1), message(2))
	}
}

// Messages that the server lists again after it deleted them, as after a restored backup,
// are deleted again or kept, but not delivered again. With TOP they are not even
// downloaded.
func TestRestoredMessages(t *testing.T) {
	for _, test := range []struct {
		keep      bool
		without   []string
		retrieved int
	}{
		{false, nil, 5},
		{true, nil, 5},
		{false, []string{"TOP"}, 10}, // downloaded once more, to be compared
		{true, []string{"TOP"}, 10},
	} {
		r := newRig(t, pop3test.Behaviour{Without: test.without})
		want := r.fill(5)
		r.mustPoll()
		r.drop.Restore()
		if len(r.left()) != 5 {
			t.Fatal("nothing was restored")
		}
		r.account.Keep.Forever = test.keep
		for _, restored := range []int{5, 0, 0} {
			if s := r.mustPoll(); s.Restored != restored {
				t.Errorf("%+v: %d restored, want %d", test, s.Restored, restored)
			}
			r.expectDelivered(want...)
		}
		r.expectRetrieved(test.retrieved)
		if left := len(r.left()); (left == 0) == test.keep {
			t.Errorf("%+v: %d left", test, left)
		}
	}
}

// Of two messages with one unique-id that were deleted, the server may restore one. It is
// not delivered again, and a new message that looks like it is.
func TestRestoredTwin(t *testing.T) {
	for _, without := range [][]string{nil, {"TOP"}, {"PIPELINING"}} {
		for _, text := range []func(int) string{message, sameHeader} {
			r := newRig(t, pop3test.Behaviour{Without: without})
			want := []string{text(1), text(2)}
			r.drop.Add("u", []byte(text(1)))
			r.drop.Add("u", []byte(text(2)))
			r.mustPoll()
			r.expectMaildropEmpty()
			r.drop.Add("u", []byte(text(2)))
			for range 2 {
				r.mustPoll()
				r.expectDelivered(want...)
				r.expectMaildropEmpty()
			}
			r.drop.Add("u", []byte(text(1)))
			r.drop.Add("new", []byte(text(3)))
			r.mustPoll()
			r.expectDelivered(append(want, text(3))...)
			r.expectMaildropEmpty()
		}
	}
}

// A message that cannot be downloaded to be compared waits like any refused message, and
// holds up no other.
func TestRestoredPoison(t *testing.T) {
	for name, fault := range map[string]pop3test.Fault{
		"refused": pop3test.On("RETR", func(x *pop3test.Exchange) {
			x.Act() // Retrieved counts it as a download
			x.Reply = strings.NewReader("-ERR no\r\n")
		}).UID("u2"),
		"cut": pop3test.CutIn("RETR", 40, pop3test.HangUp).UID("u2"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
			want := r.fill(3)
			r.mustPoll()
			r.drop.Restore()
			r.drop.Order(fault)
			r.drop.Add("new", []byte(message(9)))
			want = append(want, message(9))
			if s := r.poll(); s.Class != fetch.ClassRefused {
				t.Errorf("%v: %v", s.Class, s.Err)
			}
			r.expectDelivered(want...)
			if left := strings.Join(r.left(), " "); left != "u2" {
				t.Errorf("left %q", left)
			}
			// It is not tried again before its pause is over.
			asked := r.drop.Retrieved("u2")
			r.poll()
			if n := r.drop.Retrieved("u2") - asked; n > 0 {
				t.Errorf("asked for %d times more", n)
			}
			r.drop.ClearFaults()
			r.advance(time.Hour)
			r.mustPoll()
			r.expectDelivered(want...)
			r.expectMaildropEmpty()
		})
	}
}

// After all unique-ids have changed, as in a migration, one look at each header finds the
// messages again: only new mail is downloaded, and what was to be kept for some days is
// deleted when it is due.
func TestRenamedAllUIDs(t *testing.T) {
	const kept = 2000
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.Forever = true
	want := r.fill(kept)
	r.mustPoll()
	r.drop.SetUIDs(func(i int, old string) string { return "moved-" + old })
	r.drop.Add("new", []byte(message(kept+1)))
	want = append(want, message(kept+1))
	for range 2 {
		r.mustPoll()
		r.expectDelivered(want...)
	}
	for i := range kept {
		if n := r.drop.Retrieved("u"+strconv.Itoa(i+1)) + r.drop.Retrieved("moved-u"+strconv.Itoa(i+1)); n != 1 {
			t.Errorf("message %d was downloaded %d times", i+1, n)
		}
	}
	if n := r.drop.Retrieved("new"); n != 1 {
		t.Errorf("the new message was downloaded %d times", n)
	}
	looks := 0
	for _, line := range r.drop.Log() {
		if strings.HasPrefix(line, "TOP ") {
			looks++
		}
	}
	if looks != kept+1 {
		t.Errorf("%d headers were asked for", looks)
	}

	// The time of the landing is still known.
	r.account.Keep = fetch.Keep{For: 14 * day}
	r.advance(14 * day)
	if s := r.mustPoll(); s.Deleted != kept+1 {
		t.Errorf("deleted %d", s.Deleted)
	}
}

// Without TOP all messages are downloaded once more and compared, and none is delivered
// again, not even one of two that are equal.
func TestRenamedAllUIDsWithoutTOP(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep.Forever = true
	want := r.fill(20)
	r.drop.Add("twin1", []byte(message(50)))
	r.drop.Add("twin2", []byte(message(50)))
	want = append(want, message(50), message(50))
	r.mustPoll()
	r.drop.SetUIDs(func(i int, old string) string { return "moved-" + old })
	for range 3 {
		r.mustPoll()
		r.expectDelivered(want...)
	}
	r.expectRetrieved(44)
}

// A comparison that needs several sessions, or is cut off, goes on in the next one.
func TestRenamedAllUIDsInSessions(t *testing.T) {
	noTOP := []string{"TOP"}
	for _, test := range []struct {
		name    string
		without []string
		most    int
		cut     pop3test.Fault
	}{
		{"few in a session", noTOP, 2, pop3test.CutIn("RETR", 50, pop3test.Reset).Session(0)},
		{"cut", noTOP, 0, pop3test.CutIn("RETR", 50, pop3test.Reset).Nth(5).Session(2)},
		{"cut, with TOP", nil, 0, pop3test.CutIn("TOP", 50, pop3test.Reset).Nth(5).Session(2)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{Without: test.without})
			r.account.Keep.Forever = true
			want := r.fill(6)
			r.mustPoll()
			r.account.MaxMessages = test.most
			r.renameUIDs()
			r.drop.Order(test.cut)
			for range 2 {
				r.poll()
				r.expectDelivered(want...)
				r.advance(day)
			}
		})
	}
}

// Servers may renumber when mail arrives, so that messages exchange their unique-ids.
// Nothing is downloaded again.
func TestUIDsTradePlaces(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.Forever = true
	want := r.fill(10)
	r.mustPoll()
	r.drop.SetUIDs(func(i int, old string) string { return fmt.Sprint("u", (i+3)%10+20) })
	for range 2 {
		r.mustPoll()
		r.expectDelivered(want...)
	}
	r.expectRetrieved(10)
}

// A message is looked at before it is deleted or passed over, if it may be another one
// under a remembered unique-id.
func TestPossibleUIDReuseIsChecked(t *testing.T) {
	nameless := "Subject: alarm\n\nnumber "
	for _, test := range []struct {
		name        string
		keep        fetch.Keep
		server      pop3test.Behaviour
		first, then string
		reuse       func(r *rig) // has the server give the unique-id "u" to another message
		retrieved   int
	}{
		{
			name: "a deletion was not confirmed, and the message was missing for a time", first: message(1), then: message(2), retrieved: 2,
			reuse: func(r *rig) {
				r.drop.Order(lostQuit.Session(1))
				r.poll()
				r.mustPoll()
				r.drop.Add("u", []byte(message(2)))
			},
		},
		{
			name: "a deletion was not confirmed", first: message(1), then: message(2), retrieved: 2,
			reuse: func(r *rig) { r.drop.Order(lostQuit.Session(1)); r.poll(); r.drop.Add("u", []byte(message(2))) },
		},
		{
			name: "a deletion was not confirmed, and both have the same header", first: nameless + "1\n", then: nameless + "2\n", retrieved: 3,
			reuse: func(r *rig) { r.drop.Order(lostQuit.Session(1)); r.poll(); r.drop.Add("u", []byte(nameless+"2\n")) },
		},
		{
			name: "kept, and deleted by another client", keep: fetch.Keep{Forever: true}, first: message(1), then: message(2), retrieved: 2,
			reuse: func(r *rig) { r.poll(); r.drop.Remove("u"); r.mustPoll(); r.drop.Add("u", []byte(message(2))) },
		},
		{
			name: "kept, deleted by another client, and there is no TOP", keep: fetch.Keep{For: 14 * day}, first: message(1), then: message(2), retrieved: 3,
			server: pop3test.Behaviour{Without: []string{"TOP"}},
			reuse:  func(r *rig) { r.poll(); r.drop.Remove("u"); r.mustPoll(); r.drop.Add("u", []byte(message(2))) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.server)
			r.account.Keep = test.keep
			r.drop.Add("u", []byte(test.first))
			test.reuse(r)
			for range 3 {
				r.mustPoll()
				r.expectDelivered(test.first, test.then)
			}
			r.expectRetrieved(test.retrieved)
			r.account.Keep = fetch.Keep{}
			r.mustPoll()
			r.expectMaildropEmpty()
		})
	}
}

// A message that the server did not list for a time, or did not delete, is not downloaded
// again if its header tells it.
func TestListedAgainIsNotDownloaded(t *testing.T) {
	for _, keep := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Keep.Forever = keep
		want := r.fill(3)
		if keep {
			r.mustPoll()
			r.drop.Order(pop3test.EmptyListing().Session(2))
			r.mustPoll()
		} else {
			r.drop.Order(pop3test.ReplyErr("QUIT", "no").Session(1))
			r.poll()
		}
		r.advance(day)
		if s := r.mustPoll(); s.Fetched != 0 || len(r.left()) == 0 == keep {
			t.Errorf("keep %v: fetched %d, left %q", keep, s.Fetched, r.left())
		}
		r.mustPoll()
		r.expectDelivered(want...)
		r.expectRetrieved(3)
		for _, row := range r.rows() {
			if row.Missing != 0 {
				t.Errorf("%q is listed, and noted as missing", row.UID)
			}
		}
	}
}
