package fetch_test

import (
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Where unique-ids are message numbers, a deletion moves the numbers behind it, and new
// mail gets a number that is remembered. Each message is delivered once and deleted.
func TestMessageNumbersAsUIDs(t *testing.T) {
	telling := message
	unconfirmed := func(r *rig, _ int) { r.drop.Order(lostQuit.Session(r.drop.Sessions() + 1)) }
	for _, test := range []struct {
		name     string
		keep     fetch.Keep
		message  func(int) string
		without  []string
		most     int                  // messages in a session
		also     func(r *rig, at int) // is called before the poll of each day
		byHeader bool                 // headers tell the messages apart, so that known ones are not downloaded again
	}{
		{name: "kept for some days", keep: fetch.Keep{For: 3 * day}, message: telling, byHeader: true},
		{name: "few in a session", keep: fetch.Keep{For: 3 * day}, message: telling, most: 1},
		{name: "the same header in all messages", keep: fetch.Keep{For: 3 * day}, message: sameHeader},
		{name: "no TOP", keep: fetch.Keep{For: 3 * day}, message: telling, without: []string{"TOP"}},
		{name: "no TOP, and few in a session", keep: fetch.Keep{For: 3 * day}, message: telling, without: []string{"TOP"}, most: 2},
		{name: "nothing is kept", message: telling},
		{
			name: "deletions are not confirmed", keep: fetch.Keep{For: 3 * day}, message: telling,
			also: unconfirmed,
		},
		{
			name: "deletions are not confirmed, and the same header in all messages", keep: fetch.Keep{For: 3 * day}, message: sameHeader,
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
			name: "another client deletes while a poll sees it", keep: fetch.Keep{For: 3 * day}, message: telling,
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
					r.account.Keep = fetch.Keep{} // and so everything that has landed is due
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
			name: "the server refuses a message", message: telling,
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
				r.numberUIDs()
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
				r.advance(day)
				number()
			}
			for range 4 {
				r.advance(day)
				r.mustPoll()
				number()
			}
			r.expectDelivered(want...)
			r.expectMaildropEmpty()
			if n := r.retrievals(); test.byHeader && n > 2*len(want) { // a new message may be downloaded a second time to be compared
				t.Errorf("the server was asked for %d messages, to bring %d", n, len(want))
			}
		})
	}
}

// Where unique-ids are message numbers, the first message behind a deletion shows that all
// have moved. If the server leaves that one out of its listing, no message is taken for
// another all the same.
func TestMessageNumbersInPartialListing(t *testing.T) {
	for name, test := range map[string]struct {
		message func(int) string
		without []string
	}{
		"own headers":                     {message: message},
		"the same header in all messages": {message: sameHeader},
		"no TOP":                          {message: message, without: []string{"TOP"}},
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
				r.numberUIDs()
			}
			add(1)
			r.mustPoll()
			r.advance(12 * time.Hour)
			add(4)
			r.mustPoll()
			r.advance(12 * time.Hour)
			if s := r.mustPoll(); s.Deleted != 1 {
				t.Fatalf("%d were deleted", s.Deleted)
			}
			add(2)
			r.advance(day)
			r.drop.Order(pop3test.PartialListing(func(uid string) bool { return uid != "1" }).Session(r.drop.Sessions() + 1))
			r.poll()
			for range 3 {
				r.advance(day)
				r.mustPoll()
				add(0)
			}
			r.expectDelivered(want...)
		})
	}
}
