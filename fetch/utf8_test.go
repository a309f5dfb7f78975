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

// withUTF8 has the server give such a message as it is only to who has asked for that
// before the login, and another in its place, or none, to who has not (RFC 6856 §2.1).
func (r *rig) withUTF8(surrogate string) {
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

// A message with UTF-8 in its header comes as the server has it, and not as a server
// turns it into ASCII for those who do not ask; nor does it stay there for ever.
func TestUTF8(t *testing.T) {
	for _, mechanism := range []string{"plain", "user"} {
		for _, surrogate := range []string{"", "From: <invalid@internationalized-address.invalid>\r\n\r\nHallo\r\n"} {
			r := newRig(t, pop3test.Behaviour{Without: []string{"PIPELINING"}})
			r.account.Auth = []string{mechanism}
			r.withUTF8(surrogate)
			r.succeed()
			r.expect(strings.ReplaceAll(international, "\r\n", "\n"))
			r.expectEmpty()
		}
	}
}

// A server that announces UTF8, and refuses it, is polled as one that does not.
func TestUTF8Refused(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(1)
	r.server.Order(pop3test.On("UTF8", func(x *pop3test.Exchange) { x.Reply = strings.NewReader("-ERR not now\r\n") }))
	if s := r.succeed(); s.Fetched != 1 {
		t.Errorf("fetched %d", s.Fetched)
	}
	r.expect(want...)
}

// Nobody asks for UTF8 where the server does not announce it, nor before the
// connection is encrypted: then STLS might be refused.
func TestUTF8NotAsked(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UTF8"}})
	r.succeed()
	if log := r.commands(); slices.Contains(log, "UTF8") {
		t.Errorf("said %q", log)
	}
	r, _ = secure(t, fetch.StartTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
	r.succeed()
	log := r.commands()
	if slices.Index(log, "STLS") < 0 || slices.Index(log, "UTF8") < slices.Index(log, "STLS") {
		t.Errorf("said %q", log)
	}
}

// Over UTF8 the connection breaks, and no login fails: the password was not shown yet, and
// nobody is to check it.
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
	r.succeed()
	r.expect(want...)
}
