package fetch_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// What a message may hold never changes what is believed of the server. A
// message is given as the server has it, the wanted one with LF line ends.
func TestBodies(t *testing.T) {
	forged := "Subject: x\r\n\r\nhello\n.\n+OK 40 octets\r\nFrom: the-president@example.org\r\n\r\nsend money\n.\n+OK\r\n-ERR\r\nend\r\n"
	tests := []struct{ name, raw string }{
		{"nothing", ""},
		{"an empty line", "\r\n"},
		{"a header and nothing else", "Subject: only\r\n"},
		{"a header and the empty line", "Subject: only\r\n\r\n"},
		{"no header", "\r\nbody\r\n"},
		{"no header and no empty line", "what is this\r\n"},
		{"bare LF, dot, bare LF, and a forged reply", forged},
		{"dots", "Subject: dots\r\n\r\n.\r\n..\r\n...\r\n. \r\n.+OK\r\n"},
		{"bare CR", "Subject: cr\r\n\r\na\rb\r.\rc\r\n"},
		{"CR CRLF", "Subject: cr\r\n\r\na\r\r\n.\r\r\nb\r\n"},
		{"NUL and 8-bit", "Subject: \xff\r\n\r\n\x00\xfe\x00\r\n"},
		{"From at the beginning of a line", "Subject: f\r\n\r\nFrom here\r\n>From there\r\n"},
		{"a line of a megabyte", "Subject: long\r\n\r\n" + strings.Repeat("x", 1<<20) + "\r\n"},
		{"a header of a megabyte", strings.Repeat("X-Long: header\r\n", 1<<16) + "\r\nbody\r\n"},
	}
	for _, window := range []int{0, 1} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Server.Window = window
		var want []string
		for _, test := range tests {
			r.drop.AddExact(test.name, []byte(test.raw))
			want = append(want, strings.ReplaceAll(test.raw, "\r\n", "\n"))
		}
		r.succeed()
		r.expect(want...)
		if left := r.left(); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	}
}

// endless is the body of a message that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, strings.Repeat("drip\r\n", 10)), nil }

// A server that always has one more byte is never silent. Time is up for the
// poll all the same, what came before is safe, and the message that took so
// long holds up the others once and no more.
func TestSlowLoris(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 1
	r.drop.AddFunc("slow", 100, func() io.Reader { return endless{} })
	want := r.fill(3)

	// A busy machine may need a while for what comes before the message.
	for budget := 500 * time.Millisecond; !r.refused("slow"); budget *= 2 {
		r.account.Budget = budget
		s := r.poll()
		if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), fmt.Sprintf("longer than time_limit (%v)", budget)) {
			t.Fatalf("%v: %v", s.Class, s.Err)
		}
		if !strings.Contains(fetch.Hint(s.Err), "time_limit") {
			t.Errorf("hint %q", fetch.Hint(s.Err))
		}
	}
	r.account.Budget = 0
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Deleted != 3 {
		t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
	}
	r.expect(want...)
	r.expectNothingStaged()
}

// What has come in whole before the budget is spent arrives, however little it is.
func TestBudgetIsSpentOverLast(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 1
	r.fill(3)
	r.drop.AddFunc("slow", 100, func() io.Reader { return endless{} })
	r.account.Budget = time.Second
	s := r.poll()
	if got, whole := len(r.mail()), r.retrieved()-1; got < whole { // the last was on its way
		t.Errorf("%d messages arrived of %d: %v", got, whole, s.Err)
	}
}

// refused reports whether a poll said that it gave a message up for
// now.
func (r *rig) refused(uid string) bool {
	for _, e := range eventsOf[fetch.Refused](r) {
		if e.UID == uid {
			return true
		}
	}
	return false
}

// The same before there is any message.
func TestSlowLorisBeforeLogin(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	tick := make(chan struct{})
	r.server.Order(pop3test.Trickle(pop3test.Greeting, tick))
	r.account.Budget = time.Second
	done := make(chan fetch.Summary)
	go func() { done <- r.poll() }()
	var s fetch.Summary
	select {
	case tick <- struct{}{}: // one byte, and never another
		s = <-done
	case s = <-done: // the machine was too busy for it
	}
	if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "time_limit") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
}

// And where nothing is to be fetched: a script that looks is not held up for ever, either.
func TestSlowLorisOnALook(t *testing.T) {
	for name, look := range map[string]func(*rig) error{
		"Check": func(r *rig) error {
			_, err := r.account.Check(t.Context(), r.opts)
			return err
		},
		"Look": func(r *rig) error {
			_, err := r.account.Look(t.Context(), r.opts, nil)
			return err
		},
		"Adopt": func(r *rig) error {
			return r.account.Adopt(t.Context(), r.opts, fetch.Old{}, func(fetch.Adoption) error { return nil })
		},
		"DryRun": func(r *rig) error {
			r.opts.DryRun = true
			return r.poll().Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			// Silence would be noticed much later: this is as good as a drip.
			r.account.Server.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			r.account.Budget = 10 * time.Millisecond
			err := look(r)
			if fetch.Classify(err) != fetch.ClassRetry || !strings.Contains(err.Error(), "longer than time_limit (10ms)") {
				t.Errorf("%v: %v", fetch.Classify(err), err)
			}
		})
	}
}

// Where commands are pipelined, a CRLF that is missing before the final dot,
// or a line too much, moves all that follows by one message. No message may
// hold another's bytes, and none may be lost.
func TestRepliesOutOfStep(t *testing.T) {
	once := func(f pop3test.Fault, uid string) pop3test.Fault { return f.UID(uid).Session(1) }
	noCRLF := once(pop3test.NoFinalCRLF("RETR"), "u2")
	for name, faults := range map[string][]pop3test.Fault{
		"no CRLF before the dot": {noCRLF},
		"no CRLF, and a refusal": {noCRLF, once(pop3test.ReplyErr("RETR", "busy"), "u3")},
		"no CRLF, and a shout":   {noCRLF, once(pop3test.Prepend("RETR", "+ok "), "u3")},
		"a line too much":        {once(pop3test.Prepend("RETR", "+OK still here\r\n"), "u2")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			want := r.fill(5)
			r.drop.Order(faults...)
			s := r.succeed()
			r.expect(want...)
			if s.Deleted != 5 || s.Sessions != 2 {
				t.Errorf("deleted %d in %d sessions", s.Deleted, s.Sessions)
			}
		})
	}
}

// A message that only looks like replies out of step is fetched all the same.
func TestLooksOutOfStep(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := append(r.fill(3), "Subject: x\n\nThe end.\n+OK then\n")
	r.drop.Add("x", []byte(want[3]))
	s := r.succeed()
	r.expect(want...)
	if s.Deleted != 4 {
		t.Errorf("deleted %d", s.Deleted)
	}
}
