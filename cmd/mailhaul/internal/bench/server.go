package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// password is that of every user.
const password = "bench-password"

// server is a private Dovecot whose maildrops are filled by linking.
type server struct {
	*servertest.Server
	host  fakeT
	owner int // of the maildrops
}

// dovecotConfig lets many log in at once, and keeps the server's disk out of
// the measurement.
const dovecotConfig = `
mail_fsync = never
default_process_limit = 1000
default_client_limit = 4000
service pop3-login {
  service_count = 0
  process_min_avail = 2
}
`

// mostUsers is how many users there are.
const userCount = 200

// startServer starts a server whose folder is in parent, with all users.
func startServer(parent string, owner int) (*server, error) {
	s := &server{owner: owner}
	err := s.host.catchFatal(func() {
		s.Server = servertest.Dovecot(&s.host, servertest.DovecotOptions{
			Mechanisms: []string{"plain"}, Config: dovecotConfig, Parent: parent,
		})
		for i := range userCount {
			s.AddUser(userName(i), password)
		}
	})
	if err != nil {
		return s, err
	}
	// Dovecot sees no sooner than after a second that its file has changed.
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err = s.listUIDs(userName(userCount - 1)); err == nil || time.Now().After(limit) {
			return s, err
		}
	}
}

// userName is the user of account i, counted from 0.
func userName(i int) string { return fmt.Sprintf("u%03d@bench.example", i+1) }

// refill makes a user's maildrop hold the messages and nothing else. It logs
// in once, so that the server has made its index before anybody is measured.
func (s *server) fillMaildrop(user string, msgs []message) error {
	dir := s.Maildir(user)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := makeMaildir(dir, s.owner); err != nil {
		return err
	}
	for _, m := range msgs {
		if err := os.Link(m.file, filepath.Join(dir, "cur", m.maildirName)); err != nil {
			return err
		}
	}
	uids, err := s.listUIDs(user)
	if err == nil && len(uids) != len(msgs) {
		err = fmt.Errorf("the server lists %d messages of %d", len(uids), len(msgs))
	}
	return err
}

// list logs in and returns the unique-ids of all messages.
func (s *server) listUIDs(user string) (uids []string, err error) {
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	d := &drainConn{conn: conn, r: bufio.NewReader(conn)}
	if _, err := d.readReply(); err != nil {
		return nil, err
	}
	if _, err := d.send(authPlain(user)); err != nil {
		return nil, err
	}
	var listing strings.Builder
	for _, verb := range []string{"LIST", "UIDL"} {
		listing.Reset()
		if _, err := d.send(verb); err != nil {
			return nil, err
		}
		if err := d.copyBody(&listing); err != nil {
			return nil, err
		}
	}
	for line := range strings.Lines(listing.String()) {
		_, uid, _ := strings.Cut(strings.TrimSpace(line), " ")
		uids = append(uids, uid)
	}
	_, err = d.send("QUIT")
	return uids, err
}

func authPlain(user string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

func makeMaildir(dir string, owner int) error {
	for _, sub := range []string{"", "cur", "new", "tmp"} {
		if err := makeDir(filepath.Join(dir, sub), owner); err != nil {
			return err
		}
	}
	return nil
}

func makeDir(dir string, owner int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return chownTo(dir, owner)
}

// give makes a user the owner of path, where root runs the program. Others
// own what they make.
func chownTo(path string, owner int) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Lchown(path, owner, owner)
}

// host stands in for the test that runs a server. What would end a test ends
// the function that was given to try.
type fakeT struct {
	cleanups []func()
	failed   bool
}

type fatalError struct{ error }

func (h *fakeT) catchFatal(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatalError:
			err = r.error
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func (h *fakeT) Helper()                         {}
func (h *fakeT) Cleanup(f func())                { h.cleanups = append(h.cleanups, f) }
func (h *fakeT) Failed() bool                    { return h.failed }
func (h *fakeT) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (h *fakeT) Errorf(format string, args ...any) {
	h.failed = true
	h.Logf(format, args...)
}

func (h *fakeT) Fatal(args ...any) {
	h.failed = true
	panic(fatalError{errors.New(fmt.Sprint(args...))})
}

func (h *fakeT) Fatalf(format string, args ...any) { h.Fatal(fmt.Sprintf(format, args...)) }
func (h *fakeT) Skipf(format string, args ...any)  { h.Fatal(fmt.Sprintf(format, args...)) }

// end stops what was started, the last first.
func (h *fakeT) runCleanups() {
	for len(h.cleanups) > 0 {
		last := len(h.cleanups) - 1
		f := h.cleanups[last]
		h.cleanups = h.cleanups[:last]
		f()
	}
}
