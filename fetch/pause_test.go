package fetch_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// A poll is skipped during the pause of a mailbox that was in use, unless Insist is set.
// The pause grows with each try.
func TestInUsePauseIsKept(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[IN-USE] locked"))
	r.opts.Insist = true
	for range 3 {
		r.poll()
	}
	r.opts.Insist = false
	r.drop.ClearFaults()
	for _, later := range []time.Duration{time.Second, 4*time.Minute - 2*time.Second} {
		r.advance(later)
		if s := r.poll(); !s.Skipped {
			t.Errorf("polled in the pause: %v", s.Err)
		}
	}
	r.advance(time.Second)
	r.mustPoll()
}

// A skipped poll says until when the account has to wait, and why.
func TestSkippedPollSaysWhy(t *testing.T) {
	for _, test := range []struct {
		before, answer, why string
		wait                time.Duration
	}{
		{"", "[IN-USE] locked", "another program has the mailbox open", time.Minute},
		{"", "[LOGIN-DELAY] wait", "the last login came too early", time.Minute},
		{"LOGIN-DELAY 600", "[LOGIN-DELAY] wait", "the last login came too early", 10*time.Minute + time.Second},
		{"LOGIN-DELAY 600", "[IN-USE] locked", "another program has the mailbox open", time.Minute},
	} {
		r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", test.before}})
		r.drop.Order(pop3test.ReplyErr(pop3test.Login, test.answer).Session(1))
		r.poll()
		s := r.poll()
		pause, ok := errors.AsType[*fetch.PauseError](s.Err)
		if !ok || !pause.Until.Equal(noon.Add(test.wait)) || pause.Why != test.why {
			t.Errorf("%q, %s: %v", test.before, test.answer, s.Err)
		}
	}
}

// A LOGIN-DELAY of more than a day counts as a day.
func TestLongestLoginDelay(t *testing.T) {
	for _, seconds := range []string{"31536000", "99999999999999999999"} {
		r := newRig(t, pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "LOGIN-DELAY " + seconds}})
		r.mustPoll()
		r.advance(day + 2*time.Second)
		if s := r.poll(); s.Skipped || s.Err != nil {
			t.Errorf("%s seconds: skipped %v, %v", seconds, s.Skipped, s.Err)
		}
	}
}

// "LOGIN-DELAY n USER", announced before the login, says that it depends on the user: what
// CAPA says after the login counts (RFC 2449 §6.5). Where CAPA fails then, the first reply
// counts.
func TestLoginDelayOfSomeUser(t *testing.T) {
	for _, c := range []struct {
		before, after string
		want          time.Duration
	}{
		{"LOGIN-DELAY 600 USER", "TOP", 0},
		{"LOGIN-DELAY 600 USER", "LOGIN-DELAY 60", time.Minute},
		{"LOGIN-DELAY 600", "TOP", 10 * time.Minute},
	} {
		r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", c.before}, CapabilitiesAfter: []string{"UIDL", c.after}})
		for range 2 { // the second poll goes by what was remembered
			if s := r.mustPoll(); s.LoginDelay != c.want {
				t.Errorf("%s, %s: %v", c.before, c.after, s.LoginDelay)
			}
			r.advance(time.Hour)
		}
	}
	r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", "LOGIN-DELAY 600 USER"}})
	r.server.Order(pop3test.ReplyErr("CAPA", "not now").Nth(2))
	if s := r.mustPoll(); s.LoginDelay != 10*time.Minute {
		t.Errorf("without an answer: %v", s.LoginDelay)
	}
}
