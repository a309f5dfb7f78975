package fetch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Messages that an earlier version took the sums of are told from others.
func TestFormerSums(t *testing.T) {
	noTOP := pop3test.Behaviour{Without: []string{"TOP"}}
	noUIDL := pop3test.Behaviour{Without: []string{"UIDL"}}
	for _, test := range []struct {
		name     string
		server   pop3test.Behaviour
		keep     fetch.Keep
		text     func(int) string // of messages
		mail     int              // before
		killed   bool             // before anything is noted of the deletions
		then     func(r *rig, b pop3test.Behaviour, text func(int) string)
		messages int // in all
	}{
		{"another maildrop, headers tell", pop3test.Behaviour{}, fetch.Keep{For: 14 * day}, message, 3, false, elsewhere, 6},
		{"another maildrop, contents tell", noTOP, fetch.Keep{For: 14 * day}, message, 3, false, elsewhere, 6},
		{"killed at QUIT", pop3test.Behaviour{}, fetch.Keep{}, message, 1, true, another, 2},
		{"a unique-id of old", pop3test.Behaviour{}, fetch.Keep{}, alike, 1, false, another, 2},
		{"a unique-id of old, no TOP", noTOP, fetch.Keep{}, alike, 1, false, another, 2},
		{"it comes back", pop3test.Behaviour{}, fetch.Keep{}, alike, 1, false, comeBack, 1},
		{"it comes back, no TOP", noTOP, fetch.Keep{}, alike, 1, false, comeBack, 1},
		{"no unique-ids", noUIDL, fetch.Keep{For: 14 * day}, alike, 3, false, func(*rig, pop3test.Behaviour, func(int) string) {}, 3},
		{"new unique-ids", pop3test.Behaviour{}, fetch.Keep{For: 14 * day}, alike, 3, false, rename, 3},
		{"new unique-ids, no TOP", noTOP, fetch.Keep{For: 14 * day}, message, 3, false, rename, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			endFormer := fetch.FormerSums(t)
			r := newRig(t, test.server)
			r.account.Keep = test.keep
			for i := range test.mail {
				r.drop.Add(fmt.Sprint(i), []byte(test.text(i)))
			}
			if test.killed {
				r.opts.State = &forgetful{r.store, true}
				r.poll()
				r.opts.State = r.store
			} else {
				r.succeed()
			}
			endFormer()

			test.then(r, test.server, test.text)
			for range 3 {
				r.later(day)
				r.succeed()
			}
			if n := len(r.mail()); n != test.messages {
				t.Errorf("%d messages were delivered, want %d", n, test.messages)
			}
			r.later(15 * day)
			r.succeed()
			r.expectEmpty()
		})
	}
}

func elsewhere(r *rig, b pop3test.Behaviour, text func(int) string) {
	r.elsewhere(b)
	for i := range 3 {
		r.drop.Add(fmt.Sprint(i), []byte(text(10+i)))
	}
}

// another adds a message by the unique-id of the first one.
func another(r *rig, _ pop3test.Behaviour, text func(int) string) {
	r.drop.Add("0", []byte(text(10)))
	r.later(time.Hour)
}

func comeBack(r *rig, _ pop3test.Behaviour, text func(int) string) {
	r.drop.Add("0", []byte(text(0)))
}

func rename(r *rig, _ pop3test.Behaviour, _ func(int) string) {
	r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
}

// What one sink of two has by such a sum comes into the other alone.
func TestFormerSumOfWhatIsOwed(t *testing.T) {
	endFormer := fetch.FormerSums(t)
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	up, tries := archive.Sink, 0
	archive.Sink = &batched{up, func(b deliver.Batch) deliver.Batch { return unprepared{b, &tries} }}
	r.account.Deliver = append(r.account.Deliver, archive)
	r.drop.Add("u1", []byte(alike(1)))
	r.poll()
	endFormer()
	r.account.Deliver[1].Sink = up
	r.later(day)
	r.succeed()
	r.expect(alike(1))
	expectMail(t, "the archive", archived(), alike(1))
}
