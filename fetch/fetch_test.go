package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// rig is one account, its server, its Maildir and its state.
type rig struct {
	t       testing.TB
	server  *pop3test.Server
	drop    *pop3test.Maildrop
	dir     string // the Maildir
	store   *state.Store
	account *fetch.Account
	opts    fetch.Options
	heard   int // lines of the dialogue that commands has returned
	// patient polls again while the maildrop is in use: nobody waits for the
	// end of a QUIT that confirms nothing, and a test's next poll comes soon.
	patient bool

	mu     sync.Mutex
	events []fetch.Event
	clock  time.Time
}

const (
	user   = "alice@example.org"
	secret = "s3cret-Horse"
)

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
	r.use(server)
	return r
}

// use makes server, which was started, the one to poll.
func (r *rig) use(server *pop3test.Server) {
	r.server, r.drop = server, server.Account(user, secret)
	host, port, _ := net.SplitHostPort(server.Addr())
	r.account.Server.Host = host
	r.account.Server.Port, _ = strconv.Atoi(port)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// later moves the clock.
func (r *rig) later(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

func (r *rig) poll() fetch.Summary {
	r.t.Helper()
	// A server that says nothing for so long has hung, on any machine.
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	s := r.account.Poll(ctx, r.opts)
	for r.patient && inUse(s.Err) {
		s = r.account.Poll(ctx, r.opts)
	}
	return s
}

// inUse reports whether another session had the maildrop.
func inUse(err error) bool {
	reply, ok := errors.AsType[*pop3proto.ReplyError](err)
	return ok && reply.Code == "IN-USE"
}

// succeed polls, and fails the test unless the poll was fine.
func (r *rig) succeed() fetch.Summary {
	r.t.Helper()
	s := r.poll()
	if s.Class != fetch.ClassFine {
		r.t.Fatalf("poll: %v: %v\nserver:\n%s", s.Class, s.Err, strings.Join(r.drop.Log(), "\n"))
	}
	return s
}

// mail returns the messages of the Maildir as a mail reader sees them.
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

// expect fails the test unless the Maildir holds exactly these messages, of
// which each is given with LF line ends.
func (r *rig) expect(want ...string) {
	r.t.Helper()
	got := r.mail()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Fatalf("the Maildir holds %q, want %q", got, want)
	}
}

// expectNothingStaged fails the test if a poll left something behind in the
// Maildir's tmp.
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

// fill adds n messages with the unique-ids u1, u2, … and returns what they
// are in a Maildir.
func (r *rig) fill(n int) []string {
	var want []string
	for i := range n {
		raw := message(i + 1)
		r.drop.Add("u"+strconv.Itoa(i+1), []byte(raw))
		want = append(want, raw)
	}
	return want
}

func message(i int) string {
	return fmt.Sprintf("From: bob@example.net\nMessage-ID: <%d@example.net>\nSubject: number %d\n\n%s.\n.dot\nbody %d\n",
		i, i, strings.Repeat("line\n", i%7), i)
}

// left returns the unique-ids that the server still has.
func (r *rig) left() []string {
	var uids []string
	for _, m := range r.drop.Messages() {
		uids = append(uids, m.UID)
	}
	return uids
}

// expectEmpty fails the test if the server still has a message.
func (r *rig) expectEmpty() {
	r.t.Helper()
	if left := r.left(); len(left) != 0 {
		r.t.Errorf("left %q", left)
	}
}

func (r *rig) rows() []state.Row {
	r.t.Helper()
	rows, err := r.store.Rows(r.t.Context(), "work")
	check(r.t, err)
	return rows
}

func (r *rig) phase(uid string) state.Phase {
	r.t.Helper()
	for _, row := range r.rows() {
		if row.UID == uid {
			return row.Phase
		}
	}
	return 0
}

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

func TestFetchAndDelete(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(200)
	s := r.succeed()
	r.expect(want...)
	if s.Fetched != 200 || s.Deleted != 200 || s.Waiting != 0 || len(r.left()) != 0 {
		t.Errorf("fetched %d, deleted %d, waiting %d, %d left", s.Fetched, s.Deleted, s.Waiting, len(r.left()))
	}
	s = r.succeed()
	if s.Fetched != 0 || s.Deleted != 0 {
		t.Errorf("second poll: fetched %d, deleted %d", s.Fetched, s.Deleted)
	}
	r.expect(want...)
}

func TestKeep(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 14 * day}
	want := r.fill(3)
	r.succeed()
	r.later(10 * day)
	r.drop.Add("young", []byte("Subject: young\n\nyoung\n"))
	r.succeed()
	r.later(4 * day)
	s := r.succeed()
	if got := r.left(); s.Deleted != 3 || !slices.Equal(got, []string{"young"}) {
		t.Errorf("deleted %d, left %q", s.Deleted, got)
	}
	r.expect(append(want, "Subject: young\n\nyoung\n")...)
}

// What landed by then is due, whatever the clock said when it did.
func TestDue(t *testing.T) {
	now := time.Unix(100*24*60*60, 0)
	const young, old, ahead = 99 * 24 * 60 * 60, 50 * 24 * 60 * 60, 1000 * 24 * 60 * 60
	for _, tc := range []struct {
		keep fetch.Keep
		due  []int64
	}{
		{fetch.Keep{}, []int64{old, young, ahead}},
		{fetch.Keep{For: 50 * day}, []int64{old}},
		{fetch.Keep{Forever: true}, nil},
	} {
		var due []int64
		for _, landed := range []int64{old, young, ahead} {
			if landed <= tc.keep.Due(now) {
				due = append(due, landed)
			}
		}
		if !slices.Equal(due, tc.due) {
			t.Errorf("%+v: due are %d, want %d", tc.keep, due, tc.due)
		}
	}
}

func TestSessionsAreCapped(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 7
	want := r.fill(20)
	s := r.succeed()
	r.expect(want...)
	if s.Sessions != 3 || s.Deleted != 20 {
		t.Errorf("%d sessions, deleted %d", s.Sessions, s.Deleted)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(3)
	r.opts.DryRun = true
	s := r.succeed()
	if w := s.Would; w == nil || w.Fetch != 3 || w.FetchOctets == 0 || s.Fetched != 0 {
		t.Errorf("would have been done: %+v, fetched %d", w, s.Fetched)
	}
	if _, err := os.Stat(r.dir); err == nil || len(r.rows()) != 0 || len(r.left()) != 3 {
		t.Errorf("something was changed: rows %v, left %q, %v", r.rows(), r.left(), err)
	}
	if st, err := r.store.Status(t.Context(), "work", 0); err != nil || st.Last != nil {
		t.Errorf("a poll was recorded: %+v, %v", st.Last, err)
	}
}

func TestHeaders(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = ticking{r.account.Deliver[0].Sink, r}
	r.account.Headers = fetch.Headers{Received: true, DeliveredTo: "me@home.example", ReturnPath: true}
	r.drop.Add("u", []byte("From: Bob <bob@example.net>\n\nhi\n"))
	r.drop.Add("v", []byte("Return-Path: <>\nFrom: <eve@example.net>\n\nho\n"))
	r.drop.Add("w", []byte("From: <carol@example.net>\n\nhum\n"))
	r.drop.Add("x", []byte("From: <dan@example.net>\n\nha\n"))
	r.succeed()
	wants := map[string]struct{ returnPath, time string }{
		"hi": {"Return-Path: <bob@example.net>\n", "12:00:00"}, "ho": {"Return-Path: <>\n", "12:00:01"},
		"hum": {"Return-Path: <carol@example.net>\n", "12:00:02"}, "ha": {"Return-Path: <dan@example.net>\n", "12:00:03"},
	}
	for _, got := range r.mail() {
		head, rest, _ := strings.Cut(got, "From: ")
		_, body, _ := strings.Cut(rest, "\n\n")
		want := wants[strings.TrimSpace(body)]
		for _, want := range []string{
			"Delivered-To: me@home.example\n",
			"Received: from [127.0.0.1] by here.example.org with POP3 (mailhaul account\n" +
				"\twork) for <alice@example.org>; Sun, 22 Nov 2026 " + want.time + " +0000\n",
			want.returnPath,
		} {
			if !strings.Contains(head, want) || strings.Count(head, "Return-Path") != 1 {
				t.Errorf("the message lacks %q, or has two Return-Paths:\n%s", want, got)
			}
		}
	}
	r.expectEmpty()
}

// ticking is a sink that takes a second for each message.
type ticking struct {
	deliver.Sink
	r *rig
}

func (s ticking) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return tickingBatch{b, s.r}, err
}

type tickingBatch struct {
	deliver.Batch
	r *rig
}

func (b tickingBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	defer b.r.later(time.Second)
	return b.Batch.Stage(ctx, mail, body)
}

// An account's trouble is its own.
func TestOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	wrong := *r.account
	wrong.Name, wrong.Secret = "wrong", func(context.Context) (string, error) { return "nope", nil }
	dead := *r.account
	dead.Name = "dead"
	dead.Server.Port = 1
	got := fetch.Once(t.Context(), fetch.Setup{Accounts: []*fetch.Account{&wrong, r.account, &dead}, Options: r.opts, Parallel: 2, PerHost: 2})
	r.expect(want...)
	for i, class := range []fetch.Class{fetch.ClassOperator, fetch.ClassFine, fetch.ClassRetry} {
		if got[i].Class != class {
			t.Errorf("account %s: %v (%v), want %v", got[i].Account, got[i].Class, got[i].Err, class)
		}
	}
	if err := got[0].Err; bytes.Contains([]byte(err.Error()), []byte("nope")) {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestOverlappingPollIsSkipped(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	lease, err := r.store.Lease(t.Context(), "work")
	check(t, err)
	s := r.poll()
	if !s.Skipped || s.Class != fetch.ClassFine || s.Sessions != 0 {
		t.Errorf("skipped %v, class %v, %d sessions", s.Skipped, s.Class, s.Sessions)
	}
	check(t, lease.Release())
	r.succeed()
}

func TestDrain(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 32
	r.fill(300)
	drain := make(chan struct{})
	r.opts.Drain = drain
	observe, once := r.opts.Observer, sync.Once{}
	r.opts.Observer = func(e fetch.Event) {
		observe(e)
		if _, ok := e.(fetch.Landed); ok {
			once.Do(func() { close(drain) })
		}
	}
	s := r.succeed()
	if s.Fetched == 0 || s.Fetched == 300 || s.Deleted != s.Fetched || len(r.left()) != 300-s.Fetched {
		t.Errorf("fetched %d, deleted %d, %d left", s.Fetched, s.Deleted, len(r.left()))
	}
	st, err := r.store.Status(t.Context(), "work", 0)
	check(t, err)
	if st.Last.Result != fetch.ClassRetry.String() || st.Last.Error != fetch.ErrCutShort.Error() || st.Schedule.Failures != 0 {
		t.Errorf("recorded was %+v; %d failures", st.Last, st.Schedule.Failures)
	}
}

// A poll that is called off before it has begun to fetch, or with nothing to
// fetch, ends there.
func TestHangUpBetweenCommands(t *testing.T) {
	for _, n := range []int{0, 3} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(n)
		ctx, hangUp := context.WithCancel(t.Context())
		r.opts.Observer = func(e fetch.Event) {
			if _, ok := e.(fetch.Planned); ok {
				hangUp()
			}
		}
		if s := r.account.Poll(ctx, r.opts); s.Class != fetch.ClassRetry || s.Fetched != 0 {
			t.Errorf("%d messages: %v: %v", n, s.Class, s.Err)
		}
	}
}

// listen has connections served, each on its own, until the test ends. It returns
// the address.
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
