package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// password is the password of every user.
const password = "bench-password"

// server is a Dovecot of our own. Its maildrops are Maildirs, which are filled with hard
// links to the messages of the pool.
type server struct {
	*servertest.Server
	t     fakeT
	owner int // of the maildrops
}

// dovecotConfig allows many logins at once, and keeps the server from waiting for its own
// disk, which is not what is measured.
const dovecotConfig = `
mail_fsync = never
default_process_limit = 1000
default_client_limit = 4000
service pop3-login {
  service_count = 0
  process_min_avail = 2
}
`

// userCount is the number of users that the server has.
const userCount = 200

// startServer starts a server with all users, whose folder is in parent. It returns the
// server even with an error, since there may be something to clean up.
func startServer(parent string, owner int) (*server, error) {
	s := &server{owner: owner}
	err := s.t.catchFatal(func() {
		s.Server = servertest.Dovecot(&s.t, servertest.DovecotOptions{
			Mechanisms: []string{"plain"}, Config: dovecotConfig, Parent: parent,
		})
		for i := range userCount {
			s.AddUser(userName(i), password)
		}
	})
	if err != nil {
		return s, err
	}
	// Dovecot takes a second or more to notice that the file of its users has changed.
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err = s.listUIDs(userName(userCount - 1)); err == nil || time.Now().After(limit) {
			return s, err
		}
	}
}

// userName returns the name of user i, counted from 0.
func userName(i int) string { return fmt.Sprintf("u%03d@bench.example", i+1) }

// fillMaildrop makes a user's maildrop hold the messages and nothing else. It logs in
// once, so that Dovecot builds its index now and not while a contender is measured.
func (s *server) fillMaildrop(user string, messages []message) error {
	dir := s.Maildir(user)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := makeMaildir(dir, s.owner); err != nil {
		return err
	}
	for _, m := range messages {
		if err := os.Link(m.file, filepath.Join(dir, "cur", m.maildirName)); err != nil {
			return err
		}
	}
	uids, err := s.listUIDs(user)
	if err == nil && len(uids) != len(messages) {
		err = fmt.Errorf("the server lists %d messages of %d", len(uids), len(messages))
	}
	return err
}

// listUIDs logs in and returns the unique-ids of all messages. It also requests their
// sizes, which Dovecot then has in its index.
func (s *server) listUIDs(user string) (uids []string, err error) {
	c, err := dialAndLogin(s.Addr, nil, user)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	var listing strings.Builder
	for _, verb := range []string{"LIST", "UIDL"} {
		listing.Reset()
		if _, err := c.command(verb); err != nil {
			return nil, err
		}
		if err := c.copyBody(&listing); err != nil {
			return nil, err
		}
	}
	for line := range strings.Lines(listing.String()) {
		_, uid, _ := strings.Cut(strings.TrimSpace(line), " ")
		uids = append(uids, uid)
	}
	_, err = c.command("QUIT")
	return uids, err
}
