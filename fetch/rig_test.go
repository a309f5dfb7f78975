package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// rig is an account with a POP3 server, a Maildir that it delivers to, and a state.
type rig struct {
	t       testing.TB
	server  *pop3test.Server
	drop    *pop3test.Maildrop // the maildrop of the account on server
	dir     string             // the Maildir
	store   *state.Store
	account *fetch.Account
	opts    fetch.Options
	logRead int // lines of the maildrop's log that newCommands has returned
	// retryInUse has poll try again while the maildrop is locked. A client does not
	// wait for the reply to a QUIT that deletes nothing, so that the next poll of a
	// test may come before the server has unlocked the maildrop.
	retryInUse bool

	mu     sync.Mutex // guards what follows
	events []fetch.Event
	clock  time.Time
}

const (
	user   = "alice@example.org"
	secret = "s3cret-Horse"
)

// newRig returns a rig whose account polls in the clear, and deletes what it has fetched.
// Its clock stands at noon until advance is called.
func newRig(t testing.TB, b pop3test.Behaviour) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "Maildir"), clock: noon}
	server := pop3test.New(pop3test.Options{Behaviour: b})
	check(t, server.Start())
	t.Cleanup(func() { server.Close() })

	var err error
	r.store, err = state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	t.Cleanup(func() { r.store.Close() })
	sink, err := maildir.New(r.dir, maildir.Options{})
	check(t, err)
	t.Cleanup(func() { sink.Close() })

	r.account = &fetch.Account{
		Name: "work", User: user,
		Server:  fetch.Server{Security: fetch.PlainText},
		Secret:  func(context.Context) (string, error) { return secret, nil },
		Deliver: []fetch.Target{{Name: "home", Sink: sink}},
	}
	r.opts = fetch.Options{
		State: r.store, Host: "here.example.org",
		Observer: func(e fetch.Event) { r.mu.Lock(); r.events = append(r.events, e); r.mu.Unlock() },
		Now:      func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.clock },
	}
	r.useServer(server)
	return r
}

// useServer has the account poll server, which was started.
func (r *rig) useServer(server *pop3test.Server) {
	r.server, r.drop = server, server.Account(user, secret)
	host, port, _ := net.SplitHostPort(server.Addr())
	r.account.Server.Host = host
	r.account.Server.Port, _ = strconv.Atoi(port)
}

// check fails the test over an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// advance moves the clock of the rig.
func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// poll polls the account once.
func (r *rig) poll() fetch.Summary {
	r.t.Helper()
	// Even on a slow machine, a server that takes so long has hung.
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	s := r.account.Poll(ctx, r.opts)
	for r.retryInUse && inUse(s.Err) {
		s = r.account.Poll(ctx, r.opts)
	}
	return s
}

// inUse reports whether err says that another session has the maildrop locked.
func inUse(err error) bool {
	reply, ok := errors.AsType[*pop3proto.ReplyError](err)
	return ok && reply.Code == "IN-USE"
}

// mustPoll polls, and fails the test unless the poll was fine.
func (r *rig) mustPoll() fetch.Summary {
	r.t.Helper()
	s := r.poll()
	if s.Class != fetch.ClassFine {
		r.t.Fatalf("poll: %v: %v\nserver:\n%s", s.Class, s.Err, strings.Join(r.drop.Log(), "\n"))
	}
	return s
}

// mail returns the messages that were delivered to the Maildir, with LF line ends.
func (r *rig) mail() []string {
	r.t.Helper()
	var mail []string
	for _, sub := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(r.dir, sub))
		if err != nil && !os.IsNotExist(err) {
			r.t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(r.dir, sub, f.Name()))
			check(r.t, err)
			mail = append(mail, string(data))
		}
	}
	slices.Sort(mail)
	return mail
}

// expectDelivered fails the test unless the Maildir holds exactly these messages, which
// are given with LF line ends.
func (r *rig) expectDelivered(want ...string) {
	r.t.Helper()
	got := r.mail()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Fatalf("the Maildir holds %q, want %q", got, want)
	}
}

// expectNothingStaged fails the test if a poll left a file in the Maildir's tmp.
func (r *rig) expectNothingStaged() {
	r.t.Helper()
	files, err := os.ReadDir(filepath.Join(r.dir, "tmp"))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	if len(files) > 0 {
		r.t.Errorf("%d files are left in tmp, such as %s", len(files), files[0].Name())
	}
}

// fill adds n messages with the unique-ids u1, u2, … to the maildrop, and returns them as
// a Maildir holds them.
func (r *rig) fill(n int) []string {
	var want []string
	for i := range n {
		raw := message(i + 1)
		r.drop.Add("u"+strconv.Itoa(i+1), []byte(raw))
		want = append(want, raw)
	}
	return want
}

// message returns a message with a Message-ID: its header tells it from any other.
func message(i int) string {
	return fmt.Sprintf("From: bob@example.net\nMessage-ID: <%d@example.net>\nSubject: number %d\n\n%s.\n.dot\nbody %d\n",
		i, i, strings.Repeat("line\n", i%7), i)
}

// left returns the unique-ids of the messages that are still on the server.
func (r *rig) left() []string {
	var uids []string
	for _, m := range r.drop.Messages() {
		uids = append(uids, m.UID)
	}
	return uids
}

// numberUIDs has the server use message numbers as unique-ids.
func (r *rig) numberUIDs() {
	r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
}

// renameUIDs has the server give each message another unique-id.
func (r *rig) renameUIDs() {
	r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
}

// expectMaildropEmpty fails the test if a message is still on the server.
func (r *rig) expectMaildropEmpty() {
	r.t.Helper()
	if left := r.left(); len(left) != 0 {
		r.t.Errorf("left %q", left)
	}
}

// rows returns what the state remembers of the account's messages.
func (r *rig) rows() []state.Row {
	r.t.Helper()
	rows, err := r.store.Rows(r.t.Context(), "work")
	check(r.t, err)
	return rows
}

// phase returns the phase of a message, or 0 if nothing is remembered of it.
func (r *rig) phase(uid string) state.Phase {
	r.t.Helper()
	for _, row := range r.rows() {
		if row.UID == uid {
			return row.Phase
		}
	}
	return 0
}

// eventsOf returns the events of one type that the polls have reported.
func eventsOf[E fetch.Event](r *rig) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var es []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			es = append(es, e)
		}
	}
	return es
}

// addMaildir has the account deliver to one more Maildir, and returns a func that reads
// the messages in it.
func (r *rig) addMaildir(name string) (mail func() []string) {
	r.t.Helper()
	target, mail := r.newMaildir(name)
	r.account.Deliver = append(r.account.Deliver, target)
	return mail
}

// newMaildir returns a sink of that name, and a func that reads the messages in it.
func (r *rig) newMaildir(name string) (target fetch.Target, mail func() []string) {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), name)
	sink, err := maildir.New(dir, maildir.Options{})
	check(r.t, err)
	r.t.Cleanup(func() { sink.Close() })
	return fetch.Target{Name: name, Sink: sink}, func() []string { return (&rig{t: r.t, dir: dir}).mail() }
}

// expectMail fails the test unless got, which are the messages in the place that what
// names, are exactly these.
func expectMail(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", what, got, want)
	}
}

// expectRetrieved fails the test unless the server has seen n RETR.
func (r *rig) expectRetrieved(n int) {
	r.t.Helper()
	if got := r.retrievals(); got != n {
		r.t.Errorf("the server was asked for %d messages, want %d", got, n)
	}
}

// retrievals counts the RETR that the server has seen.
func (r *rig) retrievals() (n int) {
	for _, line := range r.drop.Log() {
		if strings.HasPrefix(line, "RETR ") {
			n++
		}
	}
	return n
}

// sameHeader returns a message with the header that all of its kind have, and with the
// same size: only its body tells it from others.
func sameHeader(i int) string { return fmt.Sprintf("Subject: alarm\n\nnumber %02d\n", i) }

// newCommands returns the commands that the server has seen since the last call.
func (r *rig) newCommands() []string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	check(r.t, r.drop.Wait(ctx)) // a client does not wait for the reply to its QUIT
	all := r.drop.Log()
	since := all[r.logRead:]
	r.logRead = len(all)
	return since
}

// switchServer has the account poll a new server, whose maildrop is empty.
func (r *rig) switchServer(b pop3test.Behaviour) {
	other := pop3test.New(pop3test.Options{Behaviour: b})
	check(r.t, other.Start())
	r.t.Cleanup(func() { other.Close() })
	r.useServer(other)
}

// listen serves connections, each in a goroutine of its own, until the test ends. It
// returns the address to connect to.
func listen(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { serve(conn); conn.Close() }()
		}
	}()
	return l.Addr().String()
}
