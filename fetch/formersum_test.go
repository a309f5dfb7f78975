package fetch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Rows whose sums were made by an earlier version are still compared rightly.
func TestFormerSums(t *testing.T) {
	noTOP := pop3test.Behaviour{Without: []string{"TOP"}}
	noUIDL := pop3test.Behaviour{Without: []string{"UIDL"}}
	for _, test := range []struct {
		name     string
		server   pop3test.Behaviour
		keep     fetch.Keep
		text     func(int) string // the text of message i
		mail     int              // messages in the first maildrop
		killed   bool             // the first poll is killed before it has recorded its deletions
		then     func(r *rig, b pop3test.Behaviour, text func(int) string)
		messages int // that are delivered in all
	}{
		{
			name: "another maildrop, headers tell",
			keep: fetch.Keep{For: 14 * day}, text: message, mail: 3, then: addInOtherMaildrop, messages: 6,
		},
		{
			name: "another maildrop, contents tell", server: noTOP,
			keep: fetch.Keep{For: 14 * day}, text: message, mail: 3, then: addInOtherMaildrop, messages: 6,
		},
		{name: "killed at QUIT", text: message, mail: 1, killed: true, then: reuseFirstUID, messages: 2},
		{name: "a reused unique-id", text: sameHeader, mail: 1, then: reuseFirstUID, messages: 2},
		{name: "a reused unique-id, no TOP", server: noTOP, text: sameHeader, mail: 1, then: reuseFirstUID, messages: 2},
		{name: "a restored message", text: sameHeader, mail: 1, then: restoreFirst, messages: 1},
		{name: "a restored message, no TOP", server: noTOP, text: sameHeader, mail: 1, then: restoreFirst, messages: 1},
		{name: "no unique-ids", server: noUIDL, keep: fetch.Keep{For: 14 * day}, text: sameHeader, mail: 3, messages: 3},
		{name: "new unique-ids", keep: fetch.Keep{For: 14 * day}, text: sameHeader, mail: 3, then: renameAll, messages: 3},
		{
			name: "new unique-ids, no TOP", server: noTOP,
			keep: fetch.Keep{For: 14 * day}, text: message, mail: 3, then: renameAll, messages: 3,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			endFormer := fetch.FormerSums(t)
			r := newRig(t, test.server)
			r.account.Keep = test.keep
			for i := range test.mail {
				r.drop.Add(fmt.Sprint(i), []byte(test.text(i)))
			}
			if test.killed {
				r.pollKilledAtQuit()
			} else {
				r.mustPoll()
			}
			endFormer()

			if test.then != nil {
				test.then(r, test.server, test.text)
			}
			for range 3 {
				r.advance(day)
				r.mustPoll()
			}
			if n := len(r.mail()); n != test.messages {
				t.Errorf("%d messages were delivered, want %d", n, test.messages)
			}
			r.advance(15 * day)
			r.mustPoll()
			r.expectMaildropEmpty()
		})
	}
}

// addInOtherMaildrop switches to another maildrop with three other messages under the same
// unique-ids.
func addInOtherMaildrop(r *rig, b pop3test.Behaviour, text func(int) string) {
	r.switchServer(b)
	for i := range 3 {
		r.drop.Add(fmt.Sprint(i), []byte(text(10+i)))
	}
}

// reuseFirstUID adds another message with the unique-id of the first one.
func reuseFirstUID(r *rig, _ pop3test.Behaviour, text func(int) string) {
	r.drop.Add("0", []byte(text(10)))
	r.advance(time.Hour)
}

// restoreFirst adds the first message again.
func restoreFirst(r *rig, _ pop3test.Behaviour, text func(int) string) {
	r.drop.Add("0", []byte(text(0)))
}

// renameAll gives each message another unique-id.
func renameAll(r *rig, _ pop3test.Behaviour, _ func(int) string) {
	r.renameUIDs()
}

// A message that one of two sinks has, with such a sum, goes to the other one alone.
func TestFormerSumOfPartlyDelivered(t *testing.T) {
	endFormer := fetch.FormerSums(t)
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.newMaildir("archive")
	up, tries := archive.Sink, 0
	archive.Sink = failPrepare(up, &tries)
	r.account.Deliver = append(r.account.Deliver, archive)
	r.drop.Add("u1", []byte(sameHeader(1)))
	r.poll()
	endFormer()
	r.account.Deliver[1].Sink = up
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(sameHeader(1))
	expectMail(t, "the archive", archived(), sameHeader(1))
}
