package fetch_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Messages that leave nothing to know them by hold up none of those behind them,
// however few messages a session takes, and not the poll.
func TestSessionsOfNameless(t *testing.T) {
	blank := func(i int) string { return fmt.Sprintf("From: bob@example.net\nSubject: number %d\n\nbody\n", i) }
	first := func(x *pop3test.Exchange) bool { return x.Args == "1" || x.Args == "2" }
	for name, test := range map[string]struct {
		server   pop3test.Behaviour
		fault    pop3test.Fault
		keep     fetch.Keep
		brings   []int // of 5 messages, in the first poll
		sessions int   // at most
	}{
		"to be compared": {
			fault: pop3test.ReplyErr("UIDL", "no"), keep: fetch.Keep{Forever: true}, brings: []int{1, 2, 3, 4, 5}, sessions: 5,
		},
		"all refused": {
			server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}}, fault: pop3test.ReplyErr("RETR", "no"), sessions: 5,
		},
		"the first ones refused": {
			server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}}, fault: pop3test.ReplyErr("RETR", "no").When(first),
			brings: []int{3, 4, 5}, sessions: 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.server)
			r.server.Order(test.fault)
			r.account.Keep, r.account.MaxMessages = test.keep, 2
			for i := 1; i <= 5; i++ {
				r.drop.Add(fmt.Sprint("u", i), []byte(blank(i)))
			}
			s := r.poll()
			var want []string
			for _, i := range test.brings {
				want = append(want, blank(i))
			}
			r.expect(want...)
			if s.Sessions > test.sessions {
				t.Errorf("%d sessions", s.Sessions)
			}
		})
	}
}

// A server that renames more messages than a session gets to is not believed that
// they are new, whatever sizes it gives.
func TestSessionsOfRenamed(t *testing.T) {
	wrong := pop3test.WrongSizes(func(_ string, n int64) int64 { return n - 5 })
	noTop := pop3test.Behaviour{Without: []string{"TOP"}}
	for name, test := range map[string]struct {
		server pop3test.Behaviour
		text   func(int) string
		faults []pop3test.Fault
	}{
		"headers":                      {text: message, faults: []pop3test.Fault{wrong}},
		"headers that are all alike":   {text: alike, faults: []pop3test.Fault{wrong}},
		"sizes":                        {server: noTop, text: message},
		"sizes that are wrong":         {server: noTop, text: message, faults: []pop3test.Fault{wrong}},
		"neither headers nor any size": {server: noTop, text: message, faults: []pop3test.Fault{pop3test.ReplyErr("LIST", "no")}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.server)
			r.account.Keep, r.account.MaxMessages = fetch.Keep{Forever: true}, 2
			r.server.Order(test.faults...)
			for i := 1; i <= 10; i++ {
				r.drop.Add(fmt.Sprint("old", i), []byte(test.text(i)))
			}
			r.succeed()
			r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i+1) })
			r.later(day)
			if s := r.succeed(); s.Fetched > 0 {
				t.Errorf("%d of 10 came again", s.Fetched)
			}
		})
	}
}

// Where unique-ids are message numbers, mail that is deleted after a time brings
// no message twice.
func TestSessionsOfNumbered(t *testing.T) {
	for name, faults := range map[string][]pop3test.Fault{
		"sizes":                {},
		"no sizes":             {pop3test.ReplyErr("LIST", "no")},
		"sizes that are wrong": {pop3test.WrongSizes(func(_ string, n int64) int64 { return n - 5 })},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
			r.account.Keep, r.account.MaxMessages = fetch.Keep{For: 3 * day}, 3
			r.server.Order(faults...)
			var want []string
			number := func() { r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint(i + 1) }) }
			add := func(from, to int) {
				for i := from; i <= to; i++ {
					r.drop.Add("new", []byte(message(i)))
					want = append(want, message(i))
				}
				number()
			}
			add(1, 2)
			r.succeed()
			r.later(2 * day)
			add(3, 8)
			r.succeed()
			for range 8 {
				r.later(day)
				number()
				r.poll()
			}
			r.expect(want...)
		})
	}
}

// Where sizes tell nothing and one message has gone, new ones may be that one. One
// over max_size is not downloaded for that.
func TestSizesThatTellNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep, r.account.MaxSize = fetch.Keep{Forever: true}, 400
	r.server.Order(pop3test.WrongSizes(func(_ string, n int64) int64 { return n + 7 }))
	want := r.fill(3)
	r.succeed()
	r.drop.Remove("u2")
	r.later(time.Hour)
	r.succeed()
	r.drop.Add("large", []byte(message(9)+strings.Repeat("more\n", 200)))
	r.drop.Add("small", []byte(message(10)))
	for range 3 {
		r.later(time.Hour)
		if s := r.succeed(); s.TooLarge != 1 {
			t.Errorf("%d are too large", s.TooLarge)
		}
	}
	if n := r.drop.Retrieved("large"); n > 0 {
		t.Errorf("the large one was downloaded %d times", n)
	}
	r.later(2 * day)
	r.drop.Add("later", []byte(message(11)))
	r.succeed()
	if n := r.drop.Retrieved("later"); n != 1 {
		t.Errorf("a message was downloaded %d times, two days after the other has gone", n)
	}
	r.expect(append(want, message(10), message(11))...)
}

// What is compared with what is listed is not forgotten meanwhile, however long
// ago it was seen.
func TestComparedAfterLong(t *testing.T) {
	for name, test := range map[string]struct {
		without []string
		text    func(int) string
	}{
		"no headers":                 {[]string{"UIDL", "TOP"}, message},
		"headers that are all alike": {[]string{"UIDL"}, alike},
	} {
		r := newRig(t, pop3test.Behaviour{Without: test.without})
		var want []string
		for i := range 6 {
			want = append(want, test.text(i))
			r.drop.Add(fmt.Sprint(i), []byte(test.text(i)))
		}
		r.drop.Order(pop3test.Ignore("QUIT", pop3test.Reset).Session(1))
		if s := r.poll(); s.Fetched != 6 || s.Deleted != 0 {
			t.Fatalf("%s: %d fetched, %d deleted: %v", name, s.Fetched, s.Deleted, s.Err)
		}
		for range 31 {
			r.later(day)
		}
		r.account.MaxMessages = 2
		for range 3 {
			r.poll()
			r.later(day)
		}
		expectMail(t, name+": the Maildir", r.mail(), want...)
	}
}

// A message that has not come in whole, under the header of one that landed, is no
// other name of that.
func TestReplySwallowedWithoutUIDL(t *testing.T) {
	for from := range 6 { // whose sums sort differently
		r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
		r.account.Server.Silence = 300 * time.Millisecond
		r.account.Keep = fetch.Keep{For: day}
		var want []string
		for i := from; i < from+3; i++ {
			want = append(want, message(i))
			r.drop.Add(fmt.Sprint(i), []byte(message(i)))
		}
		r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) { x.Reply = strings.NewReader("") }).Nth(1).Session(1))
		for range 3 {
			r.poll()
			r.account.Server.Silence = 0 // it hangs once; what follows may take its time
			r.later(2 * day)
		}
		expectMail(t, "the Maildir", r.mail(), want...)
	}
}

// What a server says it has deleted, and has not, is compared once a poll or twice,
// and not until the poll is cut short.
func TestSessionsOfServerThatKeepsAll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.MaxMessages = 2
	want := r.fill(5)
	r.drop.Order(pop3test.On("DELE", func(x *pop3test.Exchange) { x.Reply = strings.NewReader("+OK\r\n") }))
	for range 3 {
		if s := r.poll(); s.Sessions > 5 {
			t.Errorf("%d sessions", s.Sessions)
		}
		r.later(time.Hour)
	}
	r.drop.ClearFaults()
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
}

// A server without unique-ids that never gives a message twice alike has no names that
// last. A poll of several sessions ends all the same.
func TestSessionsOfChangingMail(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
	r.account.MaxMessages = 2
	r.account.Keep.Forever = true
	want := r.fill(7)
	n := 0
	r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		x.Act()
		n++
		reply, _ := io.ReadAll(x.Reply)
		x.Reply = bytes.NewReader(bytes.Replace(reply, []byte("Message-ID:"), fmt.Appendf(nil, "X-Retrieved: %d\r\nMessage-ID:", n), 1))
	}))
	if s := r.poll(); s.Sessions > len(want) {
		t.Errorf("%d sessions for %d messages", s.Sessions, len(want))
	}
}

// A poll that ends well and leaves new mail to the next one says how much.
func TestUnfetched(t *testing.T) {
	for name, test := range map[string]struct {
		arrives int // during each session
		faults  []pop3test.Fault
		want    int
	}{
		"all":                {},
		"as much arrives":    {arrives: 2, want: 3},
		"a pause is wanted":  {faults: []pop3test.Fault{pop3test.ReplyErr(pop3test.Login, "[IN-USE] wait").Session(2)}, want: 3},
		"a pause, and later": {faults: []pop3test.Fault{pop3test.ReplyErr(pop3test.Login, "[IN-USE] wait").Session(3)}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: []string{"PIPELINING"}})
			r.account.MaxMessages = 2
			r.fill(5)
			r.server.Order(test.faults...)
			r.drop.Order(pop3test.On("STAT", func(x *pop3test.Exchange) {
				x.Act()
				for i := range test.arrives {
					r.drop.Add(fmt.Sprint("new", x.Session, i), []byte(message(i)))
				}
			}))
			if s := r.succeed(); s.Unfetched != test.want || s.Fetched+s.Unfetched < 5 {
				t.Errorf("%d fetched in %d sessions, %d not; want %d", s.Fetched, s.Sessions, s.Unfetched, test.want)
			}
		})
	}
}

// What a poll that is told to end did not come to compare, or found to be other mail
// and did not come to fetch, is left to the next one as well.
func TestUnfetchedWhileComparing(t *testing.T) {
	for name, test := range map[string]struct {
		other bool // it is new mail by the unique-ids of deleted mail
		nth   int  // what is being compared when the poll is told to end
		want  int
	}{
		"had before": {nth: 3, want: 1},
		"all of it":  {nth: 4},
		"other mail": {other: true, nth: 3, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: []string{"TOP", "PIPELINING"}})
			r.account.Keep.Forever = !test.other
			r.fill(4)
			r.succeed()
			if test.other {
				for i := range 4 {
					r.drop.Add(fmt.Sprint("u", i+1), []byte(message(10+i)))
				}
			} else {
				r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
			}
			drain := make(chan struct{})
			r.opts.Drain = drain
			r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
				close(drain)
				x.Act()
			}).Nth(test.nth).Session(r.drop.Sessions() + 1))
			if s := r.succeed(); s.Unfetched != test.want || s.Fetched > 0 {
				t.Errorf("%d fetched, %d not; want %d", s.Fetched, s.Unfetched, test.want)
			}
		})
	}
}

// What a server would not delete in one session of a poll, and has deleted in the next,
// is not told of.
func TestSessionsThatDeleteLater(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 2
	want := r.fill(3)
	r.drop.Order(pop3test.ReplyErr("DELE", "busy").Session(1))
	if s := r.succeed(); s.NotDeleted != nil || s.Waiting != 0 || s.Deleted != len(want) {
		t.Errorf("%d deleted, %d waiting, not deleted: %v", s.Deleted, s.Waiting, s.NotDeleted)
	}
	r.expect(want...)
	r.expectEmpty()
}
