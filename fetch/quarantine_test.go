package fetch_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// addQuarantine gives the account a quarantine and returns a rig that reads its Maildir.
func (r *rig) addQuarantine() *rig {
	q := &rig{t: r.t, dir: filepath.Join(r.t.TempDir(), "Quarantine")}
	sink, err := maildir.New(q.dir, maildir.Options{})
	check(r.t, err)
	r.account.Quarantine = &fetch.Target{Name: "quarantine", Sink: sink}
	return q
}

// expectQuarantined fails the test unless one Refused event was reported: of the message
// uid, in the quarantine, for that reason.
func (r *rig) expectQuarantined(uid, reason string) {
	r.t.Helper()
	told := eventsOf[fetch.Refused](r)
	if len(told) != 1 || told[0].UID != uid || told[0].Quarantine != "quarantine" || !strings.Contains(told[0].Reason, reason) {
		r.t.Errorf("told of %+v, want %s in the quarantine: %s", told, uid, reason)
	}
}

// A quarantine that is broken keeps only its own mail on the server, and that is not
// downloaded with each poll.
func TestBrokenQuarantine(t *testing.T) {
	r, good, poison := newPoisonRig(t, false)
	r.account.MaxSize = 1000
	large := "Subject: large\n\n" + strings.Repeat("x\n", 1000)
	r.drop.Add("u4", []byte(large))
	q := r.addQuarantine()
	works := r.account.Quarantine.Sink
	r.account.Quarantine.Sink = unusable{works}
	for i := range 3 {
		s := r.poll()
		if s.Class != fetch.ClassOperator && i == 0 || s.Refused != 2 {
			t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
		}
		r.expectDelivered(good...)
		if left := r.left(); !slices.Equal(left, []string{"u2", "u4"}) {
			t.Errorf("left %q", left)
		}
	}
	if poison, large := r.drop.Retrieved("u2"), r.drop.Retrieved("u4"); poison != 1 || large != 0 {
		t.Errorf("the poison was downloaded %d times, the large one %d times", poison, large)
	}
	if rows := r.rows(); len(rows) != 4 || !strings.Contains(rows[1].Reason, "it is poison") || !strings.Contains(rows[1].Reason, "it is not there") {
		t.Errorf("remembered: %+v", rows)
	}
	r.account.Quarantine.Sink = works
	r.advance(time.Hour)
	r.mustPoll()
	q.expectDelivered(poison, large)
	r.expectMaildropEmpty()
}

// A message that its sink refuses goes to the quarantine and counts as delivered.
func TestRefusedGoesToQuarantine(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := newPoisonRig(t, late)
		q := r.addQuarantine()
		s := r.mustPoll()
		r.expectDelivered(good...)
		q.expectDelivered(poison)
		if s.Refused != 0 || s.Fetched != 3 || s.Quarantined != 1 || s.Deleted != 3 || len(r.left()) != 0 {
			t.Errorf("late %v: %d refused, %d fetched, %d quarantined, %d deleted, left %q", late, s.Refused, s.Fetched, s.Quarantined, s.Deleted, r.left())
		}
		r.expectQuarantined("u2", "it is poison")
		r.mustPoll()
		q.expectDelivered(poison)
	}
}

// A message that was refused before there was a quarantine goes there with its next try.
func TestQuarantineLater(t *testing.T) {
	r, good, poison := newPoisonRig(t, false)
	r.poll()
	q := r.addQuarantine()
	r.advance(15 * time.Minute)
	r.mustPoll()
	r.expectDelivered(good...)
	q.expectDelivered(poison)
	r.expectMaildropEmpty()
}

// If the quarantine refuses a message, too, the message stays on the server.
func TestQuarantineRefusesToo(t *testing.T) {
	r, good, _ := newPoisonRig(t, false)
	q := r.addQuarantine()
	r.account.Quarantine.Sink = poisonRefuser{Sink: r.account.Quarantine.Sink}
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Deleted != 2 {
		t.Errorf("%v, %d refused, %d deleted: %v", s.Class, s.Refused, s.Deleted, s.Err)
	}
	r.expectDelivered(good...)
	q.expectDelivered()
	r.expectRefused("u2", "it is poison")
}

// A message over max_size goes to the quarantine, if there is one.
func TestTooLargeGoesToQuarantine(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	big := "Subject: big\n\n" + strings.Repeat("large\n", 10_000)
	r.drop.Add("big", []byte(big))
	want := r.fill(2)
	r.account.MaxSize = 1000
	q := r.addQuarantine()
	s := r.mustPoll()
	r.expectDelivered(want...)
	q.expectDelivered(big)
	if s.TooLarge != 0 || s.Deleted != 3 || len(r.left()) != 0 {
		t.Errorf("%d too large, %d deleted, left %q", s.TooLarge, s.Deleted, r.left())
	}
	r.expectQuarantined("big", "larger than max_size: the server says")
}

// A message for a broken quarantine that the server does not give counts as refused once.
func TestUnreadForBrokenQuarantine(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 1000
	for _, uid := range []string{"u1", "u2"} {
		r.drop.Add(uid, []byte("Subject: large\n\n"+strings.Repeat("x\n", 1000)))
	}
	r.drop.Order(pop3test.ReplyErr("RETR", "cannot read it").UID("u1"))
	r.addQuarantine()
	sink := r.account.Quarantine.Sink
	r.account.Quarantine.Sink = fullSink{Sink: sink, word: "large"}
	if s := r.poll(); s.Refused != 2 {
		t.Errorf("%d refused: %v", s.Refused, s.Err)
	}
	for _, row := range r.rows() {
		if row.Tries != 1 {
			t.Errorf("%s was refused %d times", row.UID, row.Tries)
		}
	}
}

// What a quarantine has taken before it proves to be full counts as taken.
func TestQuarantineFull(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 1000
	fits := "Subject: it fits\n\n" + strings.Repeat("x\n", 1000)
	r.drop.Add("u1", []byte(fits))
	r.drop.Add("u2", []byte("Subject: it does not\n\n"+strings.Repeat("x\n", 1000)))
	q := r.addQuarantine()
	r.account.Quarantine.Sink = fullSink{Sink: r.account.Quarantine.Sink, word: "does not", most: 1}
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Quarantined != 1 || s.Refused != 1 || s.Deleted != 1 {
		t.Errorf("%v, %d quarantined, %d refused, %d deleted: %v", s.Class, s.Quarantined, s.Refused, s.Deleted, s.Err)
	}
	q.expectDelivered(fits)
	for _, e := range eventsOf[fetch.Refused](r) {
		if kept := e.Quarantine != ""; kept != (e.UID == "u1") {
			t.Errorf("told of %+v", e)
		}
	}
	if left := r.left(); !slices.Equal(left, []string{"u2"}) {
		t.Errorf("left %q", left)
	}
}

// A full disk ends the poll also if only the quarantine notices it.
func TestQuarantineOnFullDisk(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 1000
	r.drop.Add("u1", []byte("Subject: large\n\n"+strings.Repeat("x\n", 1000)))
	q := r.addQuarantine()
	sink := r.account.Quarantine.Sink
	r.account.Quarantine.Sink = hooked(sink, hooks{commit: func(context.Context, deliver.Batch, func(deliver.Receipt) error) error {
		return &deliver.Error{Fault: deliver.FaultMachine, Target: "quarantine", Op: "write", Err: errors.New("the disk is full")}
	}})
	if s := r.poll(); s.Class != fetch.ClassMachine || s.Deleted != 0 {
		t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
	}
	r.account.Quarantine.Sink = sink
	r.mustPoll()
	q.expectDelivered("Subject: large\n\n" + strings.Repeat("x\n", 1000))
	r.expectMaildropEmpty()
}

// A message that one of two sinks refuses goes to the quarantine and to the other sink.
func TestQuarantineOfOneOfSeveral(t *testing.T) {
	r, good, poison := newPoisonRig(t, true)
	archive, archived := r.newMaildir("archive")
	quarantine, quarantined := r.newMaildir("quarantine")
	r.account.Deliver = append(r.account.Deliver, archive)
	r.account.Quarantine = &quarantine
	r.mustPoll()
	r.expectDelivered(good...)
	expectMail(t, "the archive", archived(), append(good, poison)...)
	expectMail(t, "the quarantine", quarantined(), poison)
	r.expectMaildropEmpty()
}
