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

// Messages that cannot be known again hold up none of those behind them, however few
// messages a session takes, and not the poll.
func TestSessionsWithoutUIDs(t *testing.T) {
	blank := func(i int) string { return fmt.Sprintf("From: bob@example.net\nSubject: number %d\n\nbody\n", i) }
	first := func(x *pop3test.Exchange) bool { return x.Args == "1" || x.Args == "2" }
	for name, test := range map[string]struct {
		server   pop3test.Behaviour
		fault    pop3test.Fault
		keep     fetch.Keep
		brings   []int // the messages of 5 that the first poll delivers
		sessions int   // at most
	}{
		"messages that have to be compared": {
			fault: pop3test.ReplyErr("UIDL", "no"), keep: fetch.Keep{Forever: true}, brings: []int{1, 2, 3, 4, 5}, sessions: 5,
		},
		"the server refuses all messages": {
			server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}}, fault: pop3test.ReplyErr("RETR", "no"), sessions: 5,
		},
		"the server refuses the first two": {
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
			r.expectDelivered(want...)
			if s.Sessions > test.sessions {
				t.Errorf("%d sessions", s.Sessions)
			}
		})
	}
}

// If a server renames more messages than a session takes, none of them is fetched again,
// whatever sizes it lists.
func TestSessionsOfRenamed(t *testing.T) {
	wrong := pop3test.WrongSizes(func(_ string, n int64) int64 { return n - 5 })
	noTop := pop3test.Behaviour{Without: []string{"TOP"}}
	for name, test := range map[string]struct {
		server pop3test.Behaviour
		text   func(int) string
		faults []pop3test.Fault
	}{
		"headers":                      {text: message, faults: []pop3test.Fault{wrong}},
		"headers that are all alike":   {text: sameHeader, faults: []pop3test.Fault{wrong}},
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
			r.mustPoll()
			r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i+1) })
			r.advance(day)
			if s := r.mustPoll(); s.Fetched > 0 {
				t.Errorf("%d of 10 came again", s.Fetched)
			}
		})
	}
}

// Where unique-ids are message numbers and mail is deleted after some days, no message is
// delivered twice.
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
			number := func() { r.numberUIDs() }
			add := func(from, to int) {
				for i := from; i <= to; i++ {
					r.drop.Add("new", []byte(message(i)))
					want = append(want, message(i))
				}
				number()
			}
			add(1, 2)
			r.mustPoll()
			r.advance(2 * day)
			add(3, 8)
			r.mustPoll()
			for range 8 {
				r.advance(day)
				number()
				r.poll()
			}
			r.expectDelivered(want...)
		})
	}
}

// Where the listed sizes are wrong and a message has gone, a new one may be that one, and
// is compared. A message over max_size is not downloaded for that.
func TestSizesThatTellNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep, r.account.MaxSize = fetch.Keep{Forever: true}, 400
	r.server.Order(pop3test.WrongSizes(func(_ string, n int64) int64 { return n + 7 }))
	want := r.fill(3)
	r.mustPoll()
	r.drop.Remove("u2")
	r.advance(time.Hour)
	r.mustPoll()
	r.drop.Add("large", []byte(message(9)+strings.Repeat("more\n", 200)))
	r.drop.Add("small", []byte(message(10)))
	for range 3 {
		r.advance(time.Hour)
		if s := r.mustPoll(); s.TooLarge != 1 {
			t.Errorf("%d are too large", s.TooLarge)
		}
	}
	if n := r.drop.Retrieved("large"); n > 0 {
		t.Errorf("the large one was downloaded %d times", n)
	}
	r.advance(2 * day)
	r.drop.Add("later", []byte(message(11)))
	r.mustPoll()
	if n := r.drop.Retrieved("later"); n != 1 {
		t.Errorf("a message was downloaded %d times, two days after the other has gone", n)
	}
	r.expectDelivered(append(want, message(10), message(11))...)
}

// Rows are not forgotten while listed messages are compared with them, however old they
// are.
func TestRowsOutliveComparison(t *testing.T) {
	for name, test := range map[string]struct {
		without []string
		text    func(int) string
	}{
		"no headers":                 {[]string{"UIDL", "TOP"}, message},
		"headers that are all alike": {[]string{"UIDL"}, sameHeader},
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
			r.advance(day)
		}
		r.account.MaxMessages = 2
		for range 3 {
			r.poll()
			r.advance(day)
		}
		expectMail(t, name+": the Maildir", r.mail(), want...)
	}
}

// A message without unique-id whose reply got lost is not taken for one that landed.
func TestLostReplyWithoutUIDL(t *testing.T) {
	for from := range 6 { // whose sums sort in different orders
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
			r.account.Server.Silence = 0 // only the first poll meets the fault
			r.advance(2 * day)
		}
		expectMail(t, "the Maildir", r.mail(), want...)
	}
}

// Messages that the server claims to have deleted, and lists again, are compared once or
// twice a poll.
func TestSessionsOfServerThatKeepsAll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.MaxMessages = 2
	want := r.fill(5)
	r.drop.Order(pop3test.On("DELE", func(x *pop3test.Exchange) { x.Reply = strings.NewReader("+OK\r\n") }))
	for range 3 {
		if s := r.poll(); s.Sessions > 5 {
			t.Errorf("%d sessions", s.Sessions)
		}
		r.advance(time.Hour)
	}
	r.drop.ClearFaults()
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// A server without unique-ids may change each message whenever it sends it. A poll of
// several sessions ends all the same.
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

// A poll that leaves new mail to the next one says how much.
func TestUnfetchedMailIsReported(t *testing.T) {
	for name, test := range map[string]struct {
		arrives int // messages that arrive during each session
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
			if s := r.mustPoll(); s.Unfetched != test.want || s.Fetched+s.Unfetched < 5 {
				t.Errorf("%d fetched in %d sessions, %d not; want %d", s.Fetched, s.Sessions, s.Unfetched, test.want)
			}
		})
	}
}

// That counts messages which were not compared before the poll was drained, and those that
// proved to be new mail then.
func TestUnfetchedWhileComparing(t *testing.T) {
	for name, test := range map[string]struct {
		other bool // the listed messages are new ones under the unique-ids of deleted ones
		nth   int  // the comparison during which the poll is drained
		want  int
	}{
		"known mail, not all of it compared": {nth: 3, want: 1},
		"known mail, all of it compared":     {nth: 4},
		"new mail under known unique-ids":    {other: true, nth: 3, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: []string{"TOP", "PIPELINING"}})
			r.account.Keep.Forever = !test.other
			r.fill(4)
			r.mustPoll()
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
			if s := r.mustPoll(); s.Unfetched != test.want || s.Fetched > 0 {
				t.Errorf("%d fetched, %d not; want %d", s.Fetched, s.Unfetched, test.want)
			}
		})
	}
}

// A DELE that is refused in one session and succeeds in the next is not reported.
func TestSessionsThatDeleteLater(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 2
	want := r.fill(3)
	r.drop.Order(pop3test.ReplyErr("DELE", "busy").Session(1))
	if s := r.mustPoll(); s.NotDeleted != nil || s.ToDelete != 0 || s.Deleted != len(want) {
		t.Errorf("%d deleted, %d waiting, not deleted: %v", s.Deleted, s.ToDelete, s.NotDeleted)
	}
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}
