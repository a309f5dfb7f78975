package pop3test_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

func uids(m *pop3test.Maildrop) []string {
	var out []string
	for _, msg := range m.Messages() {
		out = append(out, msg.UID)
	}
	return out
}

func wantUIDs(t *testing.T, m *pop3test.Maildrop, want ...string) {
	t.Helper()
	if got := uids(m); !slices.Equal(got, want) {
		t.Errorf("maildrop holds %q, want %q", got, want)
	}
}

func TestExclusiveLock(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	m.Behave(pop3test.Behaviour{LockWait: -1})
	first := login(t, s)

	second := dial(t, s)
	second.want("+OK POP3 server ready")
	second.send("USER alice", "PASS secret")
	second.want("+OK send PASS", "-ERR [IN-USE] another session has locked the maildrop")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait on a locked maildrop = %v, want context.Canceled", err)
	}

	first.conn.Close() // without QUIT
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.send("PASS secret")
	second.want("+OK maildrop has 3 messages")
	second.send("QUIT")
	second.want("+OK bye")
	// The lock is released before the reply to QUIT is sent.
	login(t, s)
}

func TestLockWait(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	first := login(t, s)
	first.send("DELE 1")
	first.want("+OK message 1 deleted")

	second := dial(t, s)
	second.want("+OK POP3 server ready")
	second.send("USER alice", "PASS secret")
	second.want("+OK send PASS")
	first.send("QUIT")
	second.want("+OK maildrop has 2 messages")
}

func TestSessionSeesNoChange(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	p := login(t, s)
	m.Remove("uid-1")
	m.Add("uid-4", []byte("new"))
	m.SetUIDs(func(i int, old string) string { return fmt.Sprintf("%d/%s", i, old) })
	p.send("UIDL", "DELE 1", "DELE 2", "QUIT")
	p.want("+OK 3 messages (72 octets)", "1 uid-1", "2 uid-2", "3 uid-3", ".")
	p.want("+OK message 1 deleted", "+OK message 2 deleted", "+OK bye")
	wantUIDs(t, m, "1/uid-3", "2/uid-4")
	m.Restore() // does not restore uid-1, which Remove removed
	wantUIDs(t, m, "0/uid-2", "1/uid-3", "2/uid-4")
}

func TestRestore(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	p := login(t, s)
	p.send("DELE 3", "DELE 1", "QUIT")
	p.want("+OK message 3 deleted", "+OK message 1 deleted", "+OK bye")
	wantUIDs(t, m, "uid-2")
	if got := m.Deleted(); !slices.Equal(got, []string{"uid-1", "uid-3"}) {
		t.Errorf("Deleted() = %q", got)
	}
	m.Restore()
	wantUIDs(t, m, "uid-1", "uid-2", "uid-3")
}

func TestLog(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	bob := s.Account("bob", "secret")
	p := login(t, s)
	p.send("RETR 1", "retr 1", "QUIT")
	if _, err := p.rest(); err != nil {
		t.Fatal(err)
	}
	p = dial(t, s)
	p.send("AUTH PLAIN AGFsaWNlAHNlY3JldA==", "QUIT")
	if _, err := p.rest(); err != nil {
		t.Fatal(err)
	}
	p = dial(t, s)
	p.send("CAPA", "APOP bob 0123456789", "AUTH LOGIN", "Ym9i", "c2VjcmV0", "QUIT")
	if _, err := p.rest(); err != nil {
		t.Fatal(err)
	}

	want := []string{"USER alice", "PASS ****", "RETR 1", "retr 1", "QUIT", "AUTH PLAIN ****", "QUIT"}
	if got := m.Log(); !slices.Equal(got, want) {
		t.Errorf("log of alice is %q, want %q", got, want)
	}
	want = []string{"CAPA", "APOP bob ****", "AUTH LOGIN", "****", "****", "QUIT"}
	if got := bob.Log(); !slices.Equal(got, want) {
		t.Errorf("log of bob is %q, want %q", got, want)
	}
	if got := s.Log(); len(got) != 13 || got[0] != "1 USER alice" || got[12] != "3 QUIT" {
		t.Errorf("log of the server is %q", got)
	}
	if s.Sessions() != 3 || m.Sessions() != 2 || bob.Sessions() != 1 {
		t.Errorf("sessions: %d, %d of alice, %d of bob", s.Sessions(), m.Sessions(), bob.Sessions())
	}
	if m.Retrieved("uid-1") != 2 || m.Retrieved("uid-2") != 0 {
		t.Errorf("retrieved uid-1 %d times, uid-2 %d times", m.Retrieved("uid-1"), m.Retrieved("uid-2"))
	}
}

func TestRoundTrips(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	p := login(t, s)
	before := m.RoundTrips()
	p.send("STAT")
	p.want("+OK 3 72")
	p.send("NOOP", "NOOP", "NOOP")
	p.want("+OK", "+OK", "+OK")
	if got := m.RoundTrips() - before; got != 2 {
		t.Errorf("a command and a batch took %d round trips, want 2", got)
	}
}

func TestAwkwardUIDs(t *testing.T) {
	s := pop3test.New(pop3test.Options{})
	m := s.Account("alice", "secret")
	long := strings.Repeat("u", 100)
	for _, uid := range []string{"twin", "twin", "", "a b/../c", "\xe9\xff", long} {
		m.Add(uid, nil)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := login(t, s)
	p.send("UIDL", "DELE 2", "QUIT")
	p.want("+OK 6 messages (0 octets)", "1 twin", "2 twin", "3 ", "4 a b/../c", "5 \xe9\xff", "6 "+long, ".")
	p.want("+OK message 2 deleted", "+OK bye")
	wantUIDs(t, m, "twin", "", "a b/../c", "\xe9\xff", long)
}

func TestAddExact(t *testing.T) {
	const smuggled = "Subject: x\r\n\r\nend\n.\n+OK 5 octets\r\n.dot\r\n"
	s := pop3test.New(pop3test.Options{})
	m := s.Account("alice", "secret")
	m.AddExact("exact", []byte(smuggled))
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := login(t, s)
	p.send("RETR 1", "TOP 1 1", "QUIT")
	want := fmt.Sprintf("+OK %d octets\r\n", len(smuggled)) +
		"Subject: x\r\n\r\nend\n.\n+OK 5 octets\r\n..dot\r\n.\r\n" +
		"+OK top of message follows\r\nSubject: x\r\n\r\nend\n.\n+OK 5 octets\r\n.\r\n+OK bye\r\n"
	if got, err := p.rest(); got != want || err != nil {
		t.Errorf("server sent %q, %v, want %q", got, err, want)
	}
	if got := string(m.Messages()[0].Data); got != smuggled {
		t.Errorf("Data = %q, want %q", got, smuggled)
	}
}

// TestAddFunc retrieves a message that is generated in pieces, of every size, so that each
// dot, CR and LF is once at the beginning and once at the end of a piece.
func TestAddFunc(t *testing.T) {
	const text = ".a\n..\r\nb\r\r\n.\n\n.c\r"
	const wire = "..a\r\n...\r\nb\r\r\n..\r\n\r\n..c\r\r\n"
	for size := 1; size <= len(text); size++ {
		s := pop3test.New(pop3test.Options{})
		closed := make(chan struct{})
		s.Account("alice", "secret").AddFunc("big", 1<<30, func() io.Reader {
			return &pieceReader{strings.NewReader(text), size, closed}
		})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		p := login(t, s)
		p.send("LIST 1", "RETR 1", "QUIT")
		want := "+OK 1 1073741824\r\n+OK 1073741824 octets\r\n" + wire + ".\r\n+OK bye\r\n"
		if got, err := p.rest(); got != want || err != nil {
			t.Errorf("pieces of %d: server sent %q, %v, want %q", size, got, err, want)
		}
		<-closed
		s.Close()
	}
}

// pieceReader reads at most size bytes at a time.
type pieceReader struct {
	r      io.Reader
	size   int
	closed chan struct{}
}

func (p *pieceReader) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.size)]) }
func (p *pieceReader) Close() error               { close(p.closed); return nil }

func TestAddMany(t *testing.T) {
	const n = 100_000
	s := pop3test.New(pop3test.Options{})
	m := s.Account("alice", "secret")
	m.AddMany(n, func(i int) string { return fmt.Sprint("u", i) }, []byte("hi\n"))
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := login(t, s)
	p.send("UIDL")
	p.want(fmt.Sprintf("+OK %d messages (%d octets)", n, 4*n))
	for i := range n {
		p.want(fmt.Sprintf("%d u%d", i+1, i))
	}
	p.want(".")
}
