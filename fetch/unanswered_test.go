package fetch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Without unique-ids, messages whose delivery is not settled are known again by their
// headers or contents.
func TestUnsettledWithoutUID(t *testing.T) {
	for name, text := range map[string]func(int) string{"own headers": message, "same headers": sameHeader} {
		for _, without := range [][]string{{"UIDL"}, {"UIDL", "TOP"}} {
			for _, several := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, without %q, several %v", name, without, several), func(t *testing.T) {
					testUnsettledWithoutUID(t, text, without, several)
				})
			}
		}
	}
}

func testUnsettledWithoutUID(t *testing.T, text func(int) string, without []string, several bool) {
	r := newRig(t, pop3test.Behaviour{Without: without})
	second, seconds := r.newMaildir("second")
	up := second.Sink
	if several {
		r.account.Deliver = append(r.account.Deliver, second)
	} else {
		r.account.Deliver = []fetch.Target{second}
	}
	last := &r.account.Deliver[len(r.account.Deliver)-1].Sink
	var want []string
	for i := range 3 {
		want = append(want, text(i))
		r.drop.Add(fmt.Sprint(i), []byte(text(i)))
	}
	for _, sink := range []deliver.Sink{unanswering{up}, unanswering{up}, unreachable{up}} {
		*last = sink
		r.poll()
		r.advance(2 * day) // longer than a missing file of a Maildir counts as moved by its owner
	}
	*last = up
	r.poll()
	r.advance(day)
	r.mustPoll()
	expectMail(t, "the second", seconds(), want...)
	if several {
		r.expectDelivered(want...)
	}
	r.expectMaildropEmpty()
	for _, e := range eventsOf[fetch.Landed](r) {
		if e.UID != "" { // the key of its row is not reported
			t.Errorf("told of %q", e.UID)
		}
	}
}

// Where unique-ids are message numbers, an unsettled message may get the number of a
// deleted one, and a new message its number. Neither is taken for the other.
func TestUnsettledUnderAnotherNumber(t *testing.T) {
	for name, text := range map[string]func(int) string{"own headers": message, "same headers": sameHeader} {
		for _, several := range []bool{false, true} {
			for _, early := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, several %v, early %v", name, several, early), func(t *testing.T) {
					testUnsettledUnderAnotherNumber(t, text, several, early)
				})
			}
		}
	}
}

// testUnsettledUnderAnotherNumber has a third message come when the delivery of the second
// one is not settled: early is before the sink was asked to, and else after it.
func testUnsettledUnderAnotherNumber(t *testing.T, text func(int) string, several, early bool) {
	r := newRig(t, pop3test.Behaviour{})
	add := func(i int) {
		r.drop.Add("new", []byte(text(i)))
		r.numberUIDs()
	}
	poll := func(sink deliver.Sink) {
		r.account.Deliver[0].Sink = sink
		r.poll()
		r.numberUIDs()
		r.advance(time.Hour)
	}
	archive, archived := r.newMaildir("archive")
	if several {
		r.account.Deliver = append(r.account.Deliver, archive)
	}
	home := r.account.Deliver[0].Sink
	add(1)
	add(2)
	r.account.MaxMessages = 1
	batches := 0
	poll(wrapBatches(oneByOne{home}, func(b deliver.Batch) deliver.Batch {
		if batches++; batches == 1 {
			return b
		}
		return hookedBatch{b, hooks{commit: commitUnreported}}
	}))
	if early {
		add(3)
	}
	poll(unreachable{home})
	if !early {
		add(3)
		poll(unreachable{home})
	}
	for range 3 {
		poll(home)
	}
	want := []string{text(1), text(2), text(3)}
	r.expectDelivered(want...)
	if several {
		expectMail(t, "the archive", archived(), want...)
	}
	r.expectMaildropEmpty()
}
