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

// Whatever the unique-ids are like, each message is delivered once, is not
// downloaded a second time while it is kept, and goes when it is due.
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
					r.succeed()
					r.expect(want...)
				}

				// A new message behind the old ones, and one of those gone.
				r.drop.Remove(test.uids[0])
				r.drop.Add("new", []byte(message(99)))
				r.succeed()
				want = append(want, message(99))
				r.expect(want...)

				r.account.Keep = fetch.Keep{}
				r.succeed()
				r.expect(want...)
				r.expectEmpty()
				r.expectRetrieved(len(want))
			})
		}
	}
}

// alike returns messages that no header tells from each other.
func alike(i int) string { return fmt.Sprintf("Subject: alarm\n\nnumber %02d\n", i) }

// expectRetrieved fails the test unless the server was asked for n messages.
func (r *rig) expectRetrieved(n int) {
	r.t.Helper()
	if got := r.retrieved(); got != n {
		r.t.Errorf("the server was asked for %d messages, want %d", got, n)
	}
}

// retrieved counts the messages that the server was asked for.
func (r *rig) retrieved() (n int) {
	for _, line := range r.drop.Log() {
		if strings.HasPrefix(line, "RETR ") {
			n++
		}
	}
	return n
}

// Without UIDL and TOP, and nothing to be kept, nothing is delivered twice,
// even if the server forgets to delete.
func TestWithoutIdentity(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	var want []string
	// One header, three bodies; and one message twice.
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
		r.expect(want...)
	}
	if left := r.left(); len(left) != 0 {
		t.Errorf("left %d", len(left))
	}
}

// A server that has no TOP and blank unique-ids can have those kept only by
// not being asked for them.
func TestBlankWithoutTOP(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep.Forever = true
	r.drop.Add("", []byte(message(1)))
	r.drop.Add("a", []byte(message(2)))
	for range 2 { // until a person has seen to it
		s := r.poll()
		r.expect(message(2))
		if said := r.said(s); s.Class != fetch.ClassOperator || s.Schedule.Failures > 0 || !strings.Contains(said, "1 message has no unique-id") {
			t.Errorf("%v: it says %q", s.Class, said)
		}
	}
	r.account.Keep = fetch.Keep{}
	r.succeed()
	r.expect(message(1), message(2))
}

// RFC 1939 §7 forbids it; qpopper and others do it.
func TestUIDReuse(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("u", []byte(message(1)))
	r.succeed()
	r.drop.Add("u", []byte(message(2)))
	r.succeed()
	r.expect(message(1), message(2))
	r.expectEmpty()
}

func TestUIDReuseWhileKept(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("u", []byte(message(1)))
	r.succeed()
	r.account.Keep.Forever = true
	r.drop.Add("u", []byte(message(2)))
	for range 3 {
		r.succeed()
		r.expect(message(1), message(2))
	}
}

// A server that fell back to a backup lists what was deleted.
func TestRestored(t *testing.T) {
	for _, test := range []struct {
		keep      bool
		without   []string
		retrieved int
	}{
		{false, nil, 5},
		{true, nil, 5},
		{false, []string{"TOP"}, 10}, // each once more, to be compared
		{true, []string{"TOP"}, 10},
	} {
		r := newRig(t, pop3test.Behaviour{Without: test.without})
		want := r.fill(5)
		r.succeed()
		r.drop.Restore()
		if len(r.left()) != 5 {
			t.Fatal("nothing was restored")
		}
		r.account.Keep.Forever = test.keep
		for _, restored := range []int{5, 0, 0} {
			if s := r.succeed(); s.Restored != restored {
				t.Errorf("%+v: %d restored, want %d", test, s.Restored, restored)
			}
			r.expect(want...)
		}
		r.expectRetrieved(test.retrieved)
		if left := len(r.left()); (left == 0) == test.keep {
			t.Errorf("%+v: %d left", test, left)
		}
	}
}

// Of several messages with one unique-id that it was to delete, a server may have one
// left, or may restore it. A new one is not taken for it, however alike they are.
func TestRestoredTwin(t *testing.T) {
	for _, without := range [][]string{nil, {"TOP"}, {"PIPELINING"}} {
		for _, text := range []func(int) string{message, alike} {
			r := newRig(t, pop3test.Behaviour{Without: without})
			want := []string{text(1), text(2)}
			r.drop.Add("u", []byte(text(1)))
			r.drop.Add("u", []byte(text(2)))
			r.succeed()
			r.expectEmpty()
			r.drop.Add("u", []byte(text(2)))
			for range 2 {
				r.succeed()
				r.expect(want...)
				r.expectEmpty()
			}
			r.drop.Add("u", []byte(text(1)))
			r.drop.Add("new", []byte(text(3)))
			r.succeed()
			r.expect(append(want, text(3))...)
			r.expectEmpty()
		}
	}
}

// What is to be compared may be poison as well.
func TestRestoredPoison(t *testing.T) {
	for name, fault := range map[string]pop3test.Fault{
		"refused": pop3test.On("RETR", func(x *pop3test.Exchange) {
			x.Act() // and so it counts
			x.Reply = strings.NewReader("-ERR no\r\n")
		}).UID("u2"),
		"cut": pop3test.CutIn("RETR", 40, pop3test.HangUp).UID("u2"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
			want := r.fill(3)
			r.succeed()
			r.drop.Restore()
			r.drop.Order(fault)
			r.drop.Add("new", []byte(message(9)))
			want = append(want, message(9))
			if s := r.poll(); s.Class != fetch.ClassRefused {
				t.Errorf("%v: %v", s.Class, s.Err)
			}
			r.expect(want...)
			if left := strings.Join(r.left(), " "); left != "u2" {
				t.Errorf("left %q", left)
			}
			// It is left alone until its pause is over.
			asked := r.drop.Retrieved("u2")
			r.poll()
			if n := r.drop.Retrieved("u2") - asked; n > 0 {
				t.Errorf("asked for %d times more", n)
			}
			r.drop.ClearFaults()
			r.later(time.Hour)
			r.succeed()
			r.expect(want...)
			r.expectEmpty()
		})
	}
}

func TestMigration(t *testing.T) {
	const kept = 2000
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.Forever = true
	want := r.fill(kept)
	r.succeed()
	r.drop.SetUIDs(func(i int, old string) string { return "moved-" + old })
	r.drop.Add("new", []byte(message(kept+1)))
	want = append(want, message(kept+1))
	for range 2 {
		r.succeed()
		r.expect(want...)
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

	// What they were kept for is not forgotten.
	r.account.Keep = fetch.Keep{For: 14 * day}
	r.later(14 * day)
	if s := r.succeed(); s.Deleted != kept+1 {
		t.Errorf("deleted %d", s.Deleted)
	}
}

// Without TOP they have to be downloaded to be compared, but are not
// delivered again; not even if two are the same.
func TestMigrationWithoutTOP(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep.Forever = true
	want := r.fill(20)
	r.drop.Add("twin1", []byte(message(50)))
	r.drop.Add("twin2", []byte(message(50)))
	want = append(want, message(50), message(50))
	r.succeed()
	r.drop.SetUIDs(func(i int, old string) string { return "moved-" + old })
	for range 3 {
		r.succeed()
		r.expect(want...)
	}
	r.expectRetrieved(44)
}

// What takes more than one session, or is cut, goes on where it stopped.
func TestMigrationInSessions(t *testing.T) {
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
			r.succeed()
			r.account.MaxMessages = test.most
			r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
			r.drop.Order(test.cut)
			for range 2 {
				r.poll()
				r.expect(want...)
				r.later(day)
			}
		})
	}
}

// Many servers renumber when mail arrives at the other end of the maildrop.
func TestUIDsTradePlaces(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.Forever = true
	want := r.fill(10)
	r.succeed()
	r.drop.SetUIDs(func(i int, old string) string { return fmt.Sprint("u", (i+3)%10+20) })
	for range 2 {
		r.succeed()
		r.expect(want...)
	}
	r.expectRetrieved(10)
}

// What may be another message by a name that is remembered is looked at before
// it is deleted, or passed over.
func TestUIDReuseUnnoticed(t *testing.T) {
	nameless := "Subject: alarm\n\nnumber "
	for _, test := range []struct {
		name        string
		keep        fetch.Keep
		server      pop3test.Behaviour
		first, then string
		reuse       func(r *rig) // has the server give the name to another message
		retrieved   int
	}{
		{
			name: "a deletion was not confirmed, and the server lacked it for a time", first: message(1), then: message(2), retrieved: 2,
			reuse: func(r *rig) {
				r.drop.Order(lost.Session(1))
				r.poll()
				r.succeed()
				r.drop.Add("u", []byte(message(2)))
			},
		},
		{
			name: "a deletion was not confirmed", first: message(1), then: message(2), retrieved: 2,
			reuse: func(r *rig) { r.drop.Order(lost.Session(1)); r.poll(); r.drop.Add("u", []byte(message(2))) },
		},
		{
			name: "a deletion was not confirmed, and headers do not tell", first: nameless + "1\n", then: nameless + "2\n", retrieved: 3,
			reuse: func(r *rig) { r.drop.Order(lost.Session(1)); r.poll(); r.drop.Add("u", []byte(nameless+"2\n")) },
		},
		{
			name: "kept, and deleted by others", keep: fetch.Keep{Forever: true}, first: message(1), then: message(2), retrieved: 2,
			reuse: func(r *rig) { r.poll(); r.drop.Remove("u"); r.succeed(); r.drop.Add("u", []byte(message(2))) },
		},
		{
			name: "kept, deleted by others, and there is no TOP", keep: fetch.Keep{For: 14 * day}, first: message(1), then: message(2), retrieved: 3,
			server: pop3test.Behaviour{Without: []string{"TOP"}},
			reuse:  func(r *rig) { r.poll(); r.drop.Remove("u"); r.succeed(); r.drop.Add("u", []byte(message(2))) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.server)
			r.account.Keep = test.keep
			r.drop.Add("u", []byte(test.first))
			test.reuse(r)
			for range 3 {
				r.succeed()
				r.expect(test.first, test.then)
			}
			r.expectRetrieved(test.retrieved)
			r.account.Keep = fetch.Keep{}
			r.succeed()
			r.expectEmpty()
		})
	}
}

// Where unique-ids are message numbers, a deletion changes those of the messages
// behind it, and new mail has one that is remembered.
func TestNumbersForUIDs(t *testing.T) {
	telling := message
	unconfirmed := func(r *rig, _ int) { r.drop.Order(lost.Session(r.drop.Sessions() + 1)) }
	for _, test := range []struct {
		name    string
		keep    fetch.Keep
		message func(int) string
		without []string
		most    int                  // messages in a session
		also    func(r *rig, at int) // happens on that day
		told    bool                 // by their headers: what is here is not downloaded again
	}{
		{name: "kept for some days", keep: fetch.Keep{For: 3 * day}, message: telling, told: true},
		{name: "few in a session", keep: fetch.Keep{For: 3 * day}, message: telling, most: 1},
		{name: "headers do not tell", keep: fetch.Keep{For: 3 * day}, message: alike},
		{name: "no TOP", keep: fetch.Keep{For: 3 * day}, message: telling, without: []string{"TOP"}},
		{name: "no TOP, and few in a session", keep: fetch.Keep{For: 3 * day}, message: telling, without: []string{"TOP"}, most: 2},
		{name: "nothing is kept", message: telling},
		{
			name: "deletions are not confirmed", keep: fetch.Keep{For: 3 * day}, message: telling,
			also: unconfirmed,
		},
		{
			name: "deletions are not confirmed, and headers do not tell", keep: fetch.Keep{For: 3 * day}, message: alike,
			also: unconfirmed,
		},
		{
			name: "deletions are not confirmed, no TOP, and few in a session", keep: fetch.Keep{For: 3 * day}, message: telling,
			without: []string{"TOP"}, most: 2, also: unconfirmed,
		},
		{
			name: "deletions are refused, and no TOP", keep: fetch.Keep{For: 3 * day}, message: telling, without: []string{"TOP"},
			also: func(r *rig, _ int) {
				r.drop.Order(pop3test.ReplyErr("DELE", "no").Nth(2).Session(r.drop.Sessions() + 1))
			},
		},
		{
			name: "others delete, which is seen", keep: fetch.Keep{For: 3 * day}, message: telling,
			also: func(r *rig, at int) {
				if at == 6 {
					r.poll()
					r.drop.Remove("2")
				}
			},
		},
		{
			name: "connections die over a header", keep: fetch.Keep{For: 3 * day}, message: telling,
			also: func(r *rig, at int) {
				switch at {
				case 4:
					r.drop.Order(pop3test.CutIn("TOP", 10, pop3test.Reset).UID("1"))
					r.account.Keep = fetch.Keep{} // and so all that seems to have landed is due
					r.poll()
					r.poll()
				case 5:
					r.drop.ClearFaults()
				}
			},
		},
		{
			name: "the server refuses a header", keep: fetch.Keep{For: 3 * day}, message: telling,
			also: func(r *rig, _ int) {
				r.drop.ClearFaults()
				r.drop.Order(pop3test.ReplyErr("TOP", "no").UID("2"))
			},
		},
		{
			name: "the server refuses one", message: telling,
			also: func(r *rig, at int) {
				if at == 2 {
					r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("1").Session(r.drop.Sessions() + 1))
				}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{Without: test.without})
			r.account.Keep, r.account.MaxMessages = test.keep, test.most
			number := func() {
				r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
			}
			var want []string
			for at := range 10 {
				r.drop.Add("new", []byte(test.message(at)))
				want = append(want, test.message(at))
				number()
				if test.also != nil {
					test.also(r, at)
					number()
				}
				r.poll()
				r.later(day)
				number()
			}
			for range 4 {
				r.later(day)
				r.succeed()
				number()
			}
			r.expect(want...)
			r.expectEmpty()
			if n := r.retrieved(); test.told && n > 2*len(want) { // once to be compared, if it is new
				t.Errorf("the server was asked for %d messages, to bring %d", n, len(want))
			}
		})
	}
}

// A message that the server did not list for a time, or did not delete, is not
// downloaded again to be told from others, if it has a header that tells it.
func TestFoundAgain(t *testing.T) {
	for _, keep := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Keep.Forever = keep
		want := r.fill(3)
		if keep {
			r.succeed()
			r.drop.Order(pop3test.EmptyListing().Session(2))
			r.succeed()
		} else {
			r.drop.Order(pop3test.ReplyErr("QUIT", "no").Session(1))
			r.poll()
		}
		r.later(day)
		if s := r.succeed(); s.Fetched != 0 || len(r.left()) == 0 == keep {
			t.Errorf("keep %v: fetched %d, left %q", keep, s.Fetched, r.left())
		}
		r.succeed()
		r.expect(want...)
		r.expectRetrieved(3)
		for _, row := range r.rows() {
			if row.Missing != 0 {
				t.Errorf("%q is listed, and noted as missing", row.UID)
			}
		}
	}
}

// Where unique-ids are message numbers, a deletion is noticed by what the first message
// behind it is called. If the server does not list that one, nothing is taken for what it
// is called.
func TestNumbersNotAllListed(t *testing.T) {
	for name, test := range map[string]struct {
		message func(int) string
		without []string
	}{
		"headers":    {message: message},
		"no headers": {message: alike},
		"no TOP":     {message: message, without: []string{"TOP"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: test.without})
			r.account.Keep.For = day
			var want []string
			add := func(n int) {
				for range n {
					raw := test.message(len(want))
					want = append(want, raw)
					r.drop.Add("new", []byte(raw))
				}
				r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
			}
			add(1)
			r.succeed()
			r.later(12 * time.Hour)
			add(4)
			r.succeed()
			r.later(12 * time.Hour)
			if s := r.succeed(); s.Deleted != 1 {
				t.Fatalf("%d were deleted", s.Deleted)
			}
			add(2)
			r.later(day)
			r.drop.Order(pop3test.PartialListing(func(uid string) bool { return uid != "1" }).Session(r.drop.Sessions() + 1))
			r.poll()
			for range 3 {
				r.later(day)
				r.succeed()
				add(0)
			}
			r.expect(want...)
		})
	}
}
