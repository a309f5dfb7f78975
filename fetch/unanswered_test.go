package fetch_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// away is a sink that fails in Commit, and is not there when it is asked about it.
type away struct{ silent }

func (away) Begin(context.Context) (deliver.Batch, error) { return nil, errSilent }

// What a sink has yet to answer for is known again by its header or by its content,
// where the server has no names for messages.
func TestUnansweredWithoutAName(t *testing.T) {
	for name, text := range map[string]func(int) string{"headers that tell": message, "headers that do not": alike} {
		for _, without := range [][]string{{"UIDL"}, {"UIDL", "TOP"}} {
			for _, several := range []bool{true, false} {
				r := newRig(t, pop3test.Behaviour{Without: without})
				home := r.account.Deliver[0].Sink
				second, seconds := r.another("second")
				up := second.Sink
				r.account.Deliver = append(r.account.Deliver, second)
				if !several {
					r.account.Deliver = r.account.Deliver[1:]
				}
				last := &r.account.Deliver[len(r.account.Deliver)-1].Sink
				var want []string
				for i := range 3 {
					want = append(want, text(i))
					r.drop.Add(fmt.Sprint(i), []byte(text(i)))
				}
				for _, mood := range []deliver.Sink{silent{up}, silent{up}, away{silent{up}}} {
					*last = mood
					r.poll()
					r.later(2 * day) // longer than a Maildir believes that somebody took its files
				}
				*last = up
				r.poll()
				r.later(day)
				r.succeed()
				what := fmt.Sprintf("%s, without %q: the ", name, without)
				expectMail(t, what+"second", seconds(), want...)
				if several {
					expectMail(t, what+"first", (&rig{t: t, dir: r.dir}).mail(), want...)
				}
				r.account.Deliver[0].Sink = home
				r.expectEmpty()
				for _, e := range eventsOf[fetch.Landed](r) {
					if e.UID != "" { // what it is remembered by is nothing to tell
						t.Errorf("told of %q", e.UID)
					}
				}
			}
		}
	}
}

// What a sink has yet to answer for may have the number of a message that is gone by
// then, and the next one its own: that is not taken for it, nor it for a new one.
func TestUnansweredUnderAnotherNumber(t *testing.T) {
	for name, text := range map[string]func(int) string{"told apart": message, "alike": alike} {
		for n := range 4 {
			several, early := n%2 > 0, n >= 2 // the next one comes before the sink answers
			r := newRig(t, pop3test.Behaviour{})
			add := func(i int) {
				r.drop.Add("new", []byte(text(i)))
				r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
			}
			poll := func(sink deliver.Sink) {
				r.account.Deliver[0].Sink = sink
				r.poll()
				r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
				r.later(time.Hour)
			}
			archive, archived := r.another("archive")
			if several {
				r.account.Deliver = append(r.account.Deliver, archive)
			}
			home := r.account.Deliver[0].Sink
			add(1)
			add(2)
			r.account.MaxMessages = 1
			begun := 0
			poll(&batched{one{home}, func(b deliver.Batch) deliver.Batch {
				if begun++; begun == 1 {
					return b
				}
				return muteBatch{b}
			}})
			if early {
				add(3)
			}
			poll(away{silent{home}})
			if !early {
				add(3)
				poll(away{silent{home}})
			}
			for range 3 {
				poll(home)
			}
			want := []string{text(1), text(2), text(3)}
			what := fmt.Sprintf("%s, several %v, early %v: ", name, several, early)
			expectMail(t, what+"it", r.mail(), want...)
			if several {
				expectMail(t, what+"the archive", archived(), want...)
			}
			r.expectEmpty()
		}
	}
}
