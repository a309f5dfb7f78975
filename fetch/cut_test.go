package fetch_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// The first session of an account is cut off after k bytes from the server, for every k.
// After at most three polls each message has been delivered whole and once, and the
// maildrop is empty.
func TestCutAtEveryByte(t *testing.T) {
	for _, end := range []pop3test.End{pop3test.HangUp, pop3test.Reset} {
		for _, window := range []int{0, 1} {
			t.Run(fmt.Sprintf("server %v, window %d", end, window), func(t *testing.T) {
				t.Parallel()
				testCuts(t, end, window)
			})
		}
	}
}

func testCuts(t *testing.T, end pop3test.End, window int) {
	// With few capabilities the server sends few bytes.
	brief := []string{"UIDL", "TOP", "USER", "PIPELINING"}
	r := newRig(t, pop3test.Behaviour{Greeting: "hi", Capabilities: brief, CapabilitiesAfter: brief})
	r.account.Server.Window = window
	step := int64(1)
	if testing.Short() || raceEnabled {
		step = 7
	}
	var next, cuts atomic.Int64
	next.Store(-step)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			// pollCutAfter returns false once k is beyond the end of the session.
			for !t.Failed() && r.pollCutAfter(next.Add(step), end) {
				cuts.Add(1)
			}
		})
	}
	workers.Wait()
	if n := cuts.Load(); n*step < 300 {
		t.Errorf("only %d cuts", n)
	}
}

// pollCutAfter polls an account of its own whose first session is cut after k bytes. It
// returns false if the session has no more than k bytes.
func (r *rig) pollCutAfter(k int64, end pop3test.End) bool {
	name := fmt.Sprint("cut-", k)
	one := rig{t: r.t, dir: filepath.Join(r.t.TempDir(), name), opts: r.opts, store: r.store}
	one.drop = r.server.Account(name, secret)
	one.opts.Observer = nil
	account := *r.account
	account.Name, account.User = name, name
	sink, err := maildir.New(one.dir, maildir.Options{})
	if err != nil {
		r.t.Error(err)
		return false
	}
	defer sink.Close()
	account.Deliver = []fetch.Target{{Name: "home", Sink: sink}}
	one.account = &account

	want := []string{"Subject: 1\n\none\n", "Subject: 2\n\n.\n", "3\n"}
	for i, raw := range want {
		one.drop.Add(fmt.Sprint("u", i+1), []byte(raw))
	}
	// The faults of a maildrop begin with the command that names its user, but
	// the bytes before it count.
	one.drop.Order(pop3test.CutAfter(k, end).Session(1))

	polls, cut := 0, false
	for polls < 3 {
		polls++
		ctx, cancel := context.WithCancel(r.t.Context())
		s := account.Poll(ctx, one.opts)
		cancel()
		cut = cut || s.Err != nil || s.Sessions > 1
		if s.Class != fetch.ClassFine && s.Class != fetch.ClassRetry {
			r.t.Errorf("cut after %d bytes, poll %d: %v: %v", k, polls, s.Class, s.Err)
		}
		if s.Class == fetch.ClassFine && len(one.left()) == 0 {
			break
		}
	}
	if left := one.left(); len(left) > 0 {
		r.t.Errorf("cut after %d bytes: left on the server after %d polls: %q", k, polls, left)
	}
	got := one.mail()
	if slices.Sort(want); !slices.Equal(got, want) {
		r.t.Errorf("cut after %d bytes: the Maildir holds %q after %d polls", k, got, polls)
	}
	one.expectNothingStaged()
	return cut
}

// A connection that is cut before the login is an error that is tried again, and has a
// hint.
func TestCutBeforeLogin(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	for k := range int64(60) {
		r.server.ClearFaults()
		r.server.Order(pop3test.CutAfter(k, pop3test.HangUp).Session(r.server.Sessions() + 1))
		if s := r.poll(); s.Class != fetch.ClassRetry || fetch.Hint(s.Err) == "" {
			t.Errorf("cut after %d bytes: %v: %v", k, s.Class, s.Err)
		}
	}
	want := r.fill(3)
	r.mustPoll()
	r.expectDelivered(want...)
}
