package fetch_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// international is a message with letters beyond ASCII in its header (RFC 6532).
const international = "From: Jürgen <jürgen@bücher.example>\r\nSubject: Grüße\r\n\r\nHallo\r\n"

// addUTF8Message adds that message to the maildrop. The server sends it as it is only to a
// client that has asked for UTF8 before the login, and surrogate, or a refusal if that is
// empty, to any other (RFC 6856 §2.1).
func (r *rig) addUTF8Message(surrogate string) {
	var mu sync.Mutex
	asked := map[int]bool{} // by session
	instead := func(x *pop3test.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case asked[x.Session]:
			x.Act()
		case surrogate == "":
			x.Reply = strings.NewReader("-ERR [UTF8] the message needs UTF8\r\n")
		default:
			x.Reply = strings.NewReader("+OK\r\n" + surrogate + ".\r\n")
		}
	}
	r.server.Order(
		pop3test.On("UTF8", func(x *pop3test.Exchange) {
			x.Act()
			mu.Lock()
			defer mu.Unlock()
			asked[x.Session] = true
		}),
		pop3test.On("RETR", instead).UID("u1"))
	r.drop.Add("u1", []byte(international))
}

// A message with UTF-8 in its header is delivered as the server has it.
func TestUTF8MessageIsDeliveredAsItIs(t *testing.T) {
	for _, mechanism := range []string{"plain", "user"} {
		for _, surrogate := range []string{"", "From: <invalid@internationalized-address.invalid>\r\n\r\nHallo\r\n"} {
			r := newRig(t, pop3test.Behaviour{Without: []string{"PIPELINING"}})
			r.account.Auth = []string{mechanism}
			r.addUTF8Message(surrogate)
			r.mustPoll()
			r.expectDelivered(strings.ReplaceAll(international, "\r\n", "\n"))
			r.expectMaildropEmpty()
		}
	}
}

// A server that announces UTF8 and refuses it is polled without.
func TestUTF8Refused(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(1)
	r.server.Order(pop3test.On("UTF8", func(x *pop3test.Exchange) { x.Reply = strings.NewReader("-ERR not now\r\n") }))
	if s := r.mustPoll(); s.Fetched != 1 {
		t.Errorf("fetched %d", s.Fetched)
	}
	r.expectDelivered(want...)
}

// UTF8 is not asked for where it is not announced, nor before STLS, which might be refused
// then.
func TestUTF8NotAsked(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UTF8"}})
	r.mustPoll()
	if log := r.newCommands(); slices.Contains(log, "UTF8") {
		t.Errorf("said %q", log)
	}
	r, _ = newTLSRig(t, fetch.StartTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
	r.mustPoll()
	log := r.newCommands()
	if slices.Index(log, "STLS") < 0 || slices.Index(log, "UTF8") < slices.Index(log, "STLS") {
		t.Errorf("said %q", log)
	}
}

// A connection that breaks over UTF8 is not a failed login: the password was not sent yet.
func TestUTF8BreaksOff(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(1)
	r.server.Order(pop3test.Ignore("UTF8", pop3test.HangUp))
	s := r.poll()
	if _, login := errors.AsType[*fetch.LoginError](s.Err); login || s.Class != fetch.ClassRetry || !strings.Contains(fmt.Sprint(s.Err), "UTF8") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	if hint := fetch.Hint(s.Err); strings.Contains(hint, "password") {
		t.Errorf("hint: %s", hint)
	}
	r.server.ClearFaults()
	r.mustPoll()
	r.expectDelivered(want...)
}
