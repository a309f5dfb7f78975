package fetch_test

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
	"github.com/mailhaul/mailhaul/testdata"
)

// mangledByMailutils are messages that Mailutils cannot store without a change.
var mangledByMailutils = []string{"odd-bad-fields.eml", "odd-header-only.eml", "odd-no-header.eml"}

// realMail returns real messages, and odd ones, that the server can store.
func realMail(t *testing.T, server string) [][]byte {
	t.Helper()
	messages, err := testdata.All()
	check(t, err)
	var mail [][]byte
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		if _, ours := fs.Stat(testdata.Messages, "messages/"+name); server == "mailutils" &&
			(ours != nil || slices.Contains(mangledByMailutils, name)) {
			continue
		}
		mail = append(mail, []byte(messages[name]))
	}
	if len(mail) < 40 {
		t.Fatalf("there are %d messages only", len(mail))
	}
	return mail
}

// newRealRig returns a rig whose account is on a real server. It fills the maildrop with
// mail and returns what must be delivered.
func newRealRig(t *testing.T, s *servertest.Server, name string, security fetch.Security, mail [][]byte) (*rig, []string) {
	t.Helper()
	r := newRig(t, pop3test.Behaviour{}) // newRig's own server is not used
	var want []string
	for _, m := range s.AddMessages(name, mail...) {
		want = append(want, strings.ReplaceAll(string(m), "\r\n", "\n"))
	}
	addr := s.Addr
	if security == fetch.ImplicitTLS {
		addr = s.TLSAddr
	}
	_, port, err := net.SplitHostPort(addr)
	check(t, err)
	number, err := strconv.Atoi(port)
	check(t, err)
	pem, err := os.ReadFile(s.CAFile)
	check(t, err)
	r.retryInUse, r.opts.Insist = true, true
	r.account.User = name
	r.account.Server = fetch.Server{Host: "localhost", Port: number, Security: security, TLS: trusting(pem)}
	return r, want
}

// expectFinished polls once more, and fails the test if there was anything left to do.
func (r *rig) expectFinished() {
	r.t.Helper()
	if s := r.mustPoll(); s.Fetched != 0 || s.Deleted != 0 {
		r.t.Errorf("the next poll fetched %d and deleted %d", s.Fetched, s.Deleted)
	}
}

// Dovecot and Mailutils are polled with all kinds of security, to a Maildir and an mbox,
// and with keep.
func TestRealServers(t *testing.T) {
	for name, start := range map[string]func() *servertest.Server{
		"dovecot": func() *servertest.Server {
			return servertest.Dovecot(t, servertest.DovecotOptions{Mechanisms: []string{"plain", "login", "cram-md5", "scram-sha-256"}})
		},
		"mailutils": func() *servertest.Server { return servertest.Mailutils(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s, mail := start(), realMail(t, name)
			for _, u := range []string{"way0", "way1", "way2", "way3", "way4", "way5", "maildir", "mbox", "keep", "wrong"} {
				s.AddUser(u+"@example.org", secret)
			}
			t.Run("every way in", func(t *testing.T) {
				for i, way := range []struct {
					security fetch.Security
					auth     []string
				}{
					{fetch.PlainText, []string{"user"}}, {fetch.StartTLS, []string{"user"}}, {fetch.ImplicitTLS, nil},
					{fetch.StartTLS, []string{"plain"}}, {fetch.ImplicitTLS, []string{"plain"}}, {fetch.PlainText, nil},
				} {
					if name != "dovecot" && slices.Contains(way.auth, "plain") {
						continue
					}
					r, want := newRealRig(t, s, "way"+strconv.Itoa(i)+"@example.org", way.security, mail[:5])
					r.account.Auth = way.auth
					r.mustPoll()
					r.expectDelivered(want...)
					r.expectFinished()
				}
			})
			t.Run("Maildir", func(t *testing.T) {
				r, want := newRealRig(t, s, "maildir@example.org", fetch.ImplicitTLS, mail)
				if got := r.mustPoll(); got.Fetched != len(mail) || got.Deleted != len(mail) || len(s.Messages("maildir@example.org")) != 0 {
					t.Errorf("fetched %d, deleted %d of %d", got.Fetched, got.Deleted, len(mail))
				}
				r.expectDelivered(want...)
				r.expectFinished()
			})
			t.Run("mbox", func(t *testing.T) {
				r, want := newRealRig(t, s, "mbox@example.org", fetch.StartTLS, mail)
				path := filepath.Join(t.TempDir(), "mbox")
				sink, err := mbox.New(path, mbox.Options{Spool: spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS)})
				if err != nil {
					t.Fatal(err)
				}
				defer sink.Close()
				r.account.Deliver = []fetch.Target{{Name: "mbox", Sink: sink}}
				r.mustPoll()
				r.expectFinished()
				expectMbox(t, path, want)
			})
			t.Run("keep for 14 days", func(t *testing.T) {
				const old, young = 12, 3
				r, want := newRealRig(t, s, "keep@example.org", fetch.ImplicitTLS, mail[:old])
				r.account.Keep = fetch.Keep{For: 14 * day}
				r.mustPoll()
				r.advance(13 * day)
				for _, m := range s.AddMessages("keep@example.org", mail[old:old+young]...) {
					want = append(want, strings.ReplaceAll(string(m), "\r\n", "\n"))
				}
				if got := r.mustPoll(); got.Fetched != young || got.Deleted != 0 {
					t.Errorf("on day 13, fetched %d and deleted %d", got.Fetched, got.Deleted)
				}
				r.advance(day - time.Second)
				r.expectFinished()
				r.advance(time.Second)
				if got := r.mustPoll(); got.Deleted != old || len(s.Messages("keep@example.org")) != young {
					t.Errorf("on day 14, deleted %d, left %d", got.Deleted, len(s.Messages("keep@example.org")))
				}
				r.expectDelivered(want...)
			})
			t.Run("wrong password", func(t *testing.T) {
				r, _ := newRealRig(t, s, "wrong@example.org", fetch.ImplicitTLS, mail[:1])
				r.account.Secret = func(context.Context) (string, error) { return "wrong", nil }
				if got := r.poll(); got.Class != fetch.ClassOperator || len(s.Messages("wrong@example.org")) != 1 {
					t.Errorf("%v: %v", got.Class, got.Err)
				}
			})
		})
	}
}

// expectMbox fails the test unless the mbox holds exactly these messages, each followed by
// an empty line, and with ">" before lines that begin with From.
func expectMbox(t *testing.T, path string, want []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	var got []string
	var message *strings.Builder
	for line := range bytes.Lines(data) {
		switch {
		case bytes.HasPrefix(line, []byte("From ")):
			if message != nil {
				got = append(got, strings.TrimSuffix(message.String(), "\n"))
			}
			message = new(strings.Builder)
			continue
		case bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")):
			line = line[1:]
		}
		message.Write(line)
	}
	got = append(got, strings.TrimSuffix(message.String(), "\n"))
	for i, m := range want {
		if m != "" && !strings.HasSuffix(m, "\n") {
			want[i] += "\n"
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the mbox holds %d messages, want %d; or they differ", len(got), len(want))
	}
}
