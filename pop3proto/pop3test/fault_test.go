package pop3test_test

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

const (
	hello    = "+OK POP3 server ready\r\n"
	loggedIn = hello + "+OK send PASS\r\n+OK maildrop has 3 messages\r\n"
	listing  = "+OK 3 messages (72 octets)\r\n1 uid-1\r\n2 uid-2\r\n3 uid-3\r\n.\r\n"
	first    = "+OK 23 octets\r\nSubject: one\r\n\r\nfirst\r\n.\r\n"
	bye      = "+OK bye\r\n"
)

// TestFaults runs a session with one fault each. All commands are sent at once.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault pop3test.Fault
		send  string // commands after the login, separated by commas
		want  string // the replies to them
		left  string // the UIDs in the maildrop at the end
	}{
		{"none", pop3test.On("NOOP", nil), "UIDL,RETR 1,DELE 1,QUIT",
			listing + first + "+OK message 1 deleted\r\n" + bye, "uid-2 uid-3"},
		{"ReplyErr", pop3test.ReplyErr("RETR", "[SYS/TEMP] later"), "RETR 1,RETR 3,QUIT",
			"-ERR [SYS/TEMP] later\r\n-ERR [SYS/TEMP] later\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"ReplyErr to DELE has no effect", pop3test.ReplyErr("DELE", "no"), "DELE 1,QUIT",
			"-ERR no\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"ReplyErr UID", pop3test.ReplyErr("RETR", "poison").UID("uid-3"), "RETR 1,RETR 3,QUIT",
			first + "-ERR poison\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"ReplyErr Nth", pop3test.ReplyErr("RETR", "once").Nth(2), "RETR 1,RETR 1,RETR 1,QUIT",
			first + "-ERR once\r\n" + first + bye, "uid-1 uid-2 uid-3"},
		{"ReplyErr QUIT", pop3test.ReplyErr("QUIT", "not now"), "DELE 1,QUIT,NOOP",
			"+OK message 1 deleted\r\n-ERR not now\r\n", "uid-1 uid-2 uid-3"},
		{"KeepAtQuit", pop3test.KeepAtQuit(func(uid string) bool { return uid == "uid-1" }), "DELE 1,DELE 2,QUIT",
			"+OK message 1 deleted\r\n+OK message 2 deleted\r\n-ERR some deleted messages not removed\r\n", "uid-1 uid-3"},
		{"CutIn", pop3test.CutIn("RETR", 20, pop3test.HangUp).Nth(2), "RETR 1,RETR 1,NOOP",
			first + first[:20], "uid-1 uid-2 uid-3"},
		{"CutIn beyond the end", pop3test.CutIn("NOOP", 99, pop3test.HangUp), "NOOP,QUIT",
			"+OK\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"Ignore QUIT", pop3test.Ignore("QUIT", pop3test.HangUp), "DELE 1,QUIT",
			"+OK message 1 deleted\r\n", "uid-1 uid-2 uid-3"},
		{"LoseReply QUIT", pop3test.LoseReply("QUIT", pop3test.HangUp), "DELE 1,QUIT",
			"+OK message 1 deleted\r\n", "uid-2 uid-3"},
		{"Prepend", pop3test.Prepend("STAT", "* hello\r\n"), "STAT,QUIT",
			"* hello\r\n+OK 3 72\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"Append", pop3test.Append("NOOP", "+OK 1 octets\r\nforged\r\n.\r\n"), "NOOP,QUIT",
			"+OK\r\n+OK 1 octets\r\nforged\r\n.\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"Replace", pop3test.Replace("STAT", "+OK -1 -1\r\n"), "STAT,QUIT",
			"+OK -1 -1\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"HangUpAhead", pop3test.HangUpAhead("RETR", "QUIT"), "NOOP,RETR 1,QUIT", "+OK\r\n", "uid-1 uid-2 uid-3"},
		{"HangUpAhead, nothing more", pop3test.HangUpAhead("QUIT"), "NOOP,QUIT", "+OK\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"WrongSizes", pop3test.WrongSizes(func(uid string, n int64) int64 { return n + 1000 }), "STAT,LIST,LIST 3,RETR 1,QUIT",
			"+OK 3 3072\r\n+OK 3 messages (3072 octets)\r\n1 1023\r\n2 1049\r\n3 1000\r\n.\r\n+OK 3 1000\r\n" +
				strings.Replace(first, "23", "1023", 1) + bye, "uid-1 uid-2 uid-3"},
		{"PartialListing", pop3test.PartialListing(func(uid string) bool { return uid != "uid-2" }), "STAT,UIDL,UIDL 2,RETR 1,QUIT",
			"+OK 2 23\r\n+OK 2 messages (23 octets)\r\n1 uid-1\r\n3 uid-3\r\n.\r\n" +
				"-ERR no such message, only 3 in maildrop\r\n" + first + bye, "uid-1 uid-2 uid-3"},
		{"EmptyListing", pop3test.EmptyListing(), "STAT,LIST,QUIT",
			"+OK 0 0\r\n+OK 0 messages (0 octets)\r\n.\r\n" + bye, "uid-1 uid-2 uid-3"},
		{"NoFinalCRLF", pop3test.NoFinalCRLF("RETR"), "RETR 1,QUIT",
			strings.TrimSuffix(first, "\r\n.\r\n") + ".\r\n" + bye, "uid-1 uid-2 uid-3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, m := start(t, pop3test.Options{})
			m.Order(test.fault)
			p := dial(t, s)
			p.send(append([]string{"USER alice", "PASS secret"}, strings.Split(test.send, ",")...)...)
			got, err := p.rest()
			if want := loggedIn + test.want; got != want || err != nil {
				t.Errorf("server sent %q, %v\nwant %q", got, err, want)
			}
			if err := m.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantUIDs(t, m, strings.Fields(test.left)...)
		})
	}
}

// TestCutAfterEveryByte runs the same session once for each byte that the server sends,
// and cuts it there. The bytes before must be unchanged. The message must be deleted only
// if the cut is in the reply to QUIT.
func TestCutAfterEveryByte(t *testing.T) {
	commands := []string{"USER alice", "PASS secret", "UIDL", "RETR 1", "DELE 1", "QUIT"}
	const full = loggedIn + listing + first + "+OK message 1 deleted\r\n" + bye
	s, m := start(t, pop3test.Options{})
	for k := range len(full) {
		m.Restore()
		s.ClearFaults()
		s.Order(pop3test.CutAfter(int64(k), pop3test.HangUp))
		p := dial(t, s)
		p.send(commands...)
		if got, err := p.rest(); got != full[:k] || err != nil {
			t.Fatalf("cut after %d bytes: %q, %v", k, got, err)
		}
		if err := m.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		deleted, want := len(m.Deleted()) == 1, k > len(full)-len(bye)
		if deleted != want {
			t.Fatalf("cut after %d bytes: deleted is %t, want %t", k, deleted, want)
		}
	}
}

func TestReset(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	m.Order(pop3test.LoseReply("NOOP", pop3test.Reset))
	p := login(t, s)
	p.send("NOOP")
	if _, err := p.r.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestHang checks that a hanging session keeps its lock until its client hangs up.
func TestHang(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	m.Behave(pop3test.Behaviour{LockWait: -1})
	m.Order(pop3test.CutIn("RETR", 5, pop3test.Hang))
	p := login(t, s)
	p.send("RETR 1", "NOOP")
	b := make([]byte, 5)
	if _, err := io.ReadFull(p.r, b); err != nil || string(b) != "+OK 2" {
		t.Fatalf("read %q, %v", b, err)
	}
	other := dial(t, s)
	other.send("USER alice", "PASS secret")
	other.want("+OK POP3 server ready", "+OK send PASS", "-ERR [IN-USE] another session has locked the maildrop")
	p.conn.Close()
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.r.Buffered(); got != 0 {
		t.Errorf("the server sent %d bytes more", got)
	}
}

func TestHold(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	until := make(chan struct{})
	m.Order(pop3test.Hold("QUIT", until))
	p := login(t, s)
	p.send("DELE 1", "QUIT")
	p.want("+OK message 1 deleted")
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantUIDs(t, m, "uid-2", "uid-3") // QUIT has run, but has no reply yet
	until <- struct{}{}
	p.want("+OK bye")
}

func TestTrickle(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	tick := make(chan struct{})
	m.Order(pop3test.Trickle("NOOP", tick).Nth(1))
	p := login(t, s)
	p.send("NOOP", "NOOP")
	for _, want := range []byte("+OK\r\n") {
		tick <- struct{}{}
		if got, err := p.r.ReadByte(); got != want || err != nil {
			t.Fatalf("read %q, %v, want %q", got, err, want)
		}
		if p.r.Buffered() > 0 {
			t.Fatal("more than one byte for a tick")
		}
	}
	close(tick)
	p.want("+OK")
}

func TestEndless(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	m.Order(pop3test.EndlessLine("STAT"), pop3test.EndlessListing("UIDL"))
	p := login(t, s)
	p.send("STAT")
	line := make([]byte, 1<<20)
	if _, err := io.ReadFull(p.r, line); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(line), "+OK xxx") || strings.ContainsAny(string(line), "\r\n") {
		t.Errorf("STAT begins %q", line[:20])
	}
	p.conn.Close()
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}

	p = login(t, s)
	p.send("UIDL")
	p.want("+OK", "1 1", "2 2")
	for range 99_998 {
		p.line()
	}
	p.want("100001 100001")
}

func TestInjectAfterSTLS(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	s.Order(pop3test.InjectAfterSTLS("+OK injected\r\n"))
	p := dial(t, s)
	p.want("+OK POP3 server ready")
	p.send("STLS")
	p.want("+OK begin TLS")
	if p.r.Buffered() != len("+OK injected\r\n") {
		t.Fatalf("%d bytes came with the reply", p.r.Buffered())
	}
	p.want("+OK injected")
	p.secure(&tls.Config{RootCAs: roots(t, s.CA()), ServerName: "localhost"})
	p.send("NOOP", "QUIT")
	p.want("-ERR not in this state", "+OK bye")
}

func TestBareLF(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	s.Order(pop3test.BareLF())
	p := dial(t, s)
	if _, err := io.WriteString(p.conn, "USER alice\nPASS secret\r\nUIDL\nRETR 1\nQUIT\n"); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(loggedIn+listing+first+bye, "\r", "")
	if got, err := p.rest(); got != want || err != nil {
		t.Errorf("server sent %q, %v, want %q", got, err, want)
	}
}

// TestLogin checks that a fault for Login applies to every way to log in.
func TestLogin(t *testing.T) {
	s, m := start(t, pop3test.Options{Behaviour: pop3test.Behaviour{Timestamp: stamp}})
	s.Account("mrose", "tanstaaf").Order(pop3test.ReplyErr(pop3test.Login, "[SYS/PERM] closed"))
	m.Order(pop3test.ReplyErr(pop3test.Login, "[LOGIN-DELAY] too soon").Times(3))
	p := dial(t, s)
	p.send("USER alice", "PASS secret", "AUTH PLAIN AGFsaWNlAHNlY3JldA==", "AUTH LOGIN YWxpY2U=", "c2VjcmV0")
	p.send("APOP mrose c4c9334bac560ecc979e58001b3e22fb", "USER alice", "PASS secret")
	p.want("+OK POP3 server ready "+stamp, "+OK send PASS", "-ERR [LOGIN-DELAY] too soon",
		"-ERR [LOGIN-DELAY] too soon", "+ UGFzc3dvcmQ6", "-ERR [LOGIN-DELAY] too soon",
		"-ERR [SYS/PERM] closed", "+OK send PASS", "+OK maildrop has 3 messages")
}

func TestRefusedGreeting(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	s.Order(pop3test.ReplyErr(pop3test.Greeting, "too many connections").Session(2))
	dial(t, s).want("+OK POP3 server ready")
	p := dial(t, s)
	p.want("-ERR too many connections")
	p.wantEOF()
	dial(t, s).want("+OK POP3 server ready")
}

// TestScopes checks that Exchange.Session counts the sessions of the server or of the
// maildrop, and that a maildrop's fault sees the reply of the server's fault.
func TestScopes(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	dial(t, s).want("+OK POP3 server ready")
	var seen [2]int
	m.Order(pop3test.On("NOOP", func(x *pop3test.Exchange) {
		x.Act()
		seen[0] = x.Session
		if x.User != "alice" || x.Sent != int64(len(loggedIn)) {
			t.Errorf("User %q, Sent %d", x.User, x.Sent)
		}
		x.Reply = io.MultiReader(x.Reply, strings.NewReader("maildrop\r\n"))
	}))
	s.Order(pop3test.On("NOOP", func(x *pop3test.Exchange) {
		x.Act()
		seen[1] = x.Session
		x.Reply = io.MultiReader(x.Reply, strings.NewReader("server\r\n"))
	}))
	p := login(t, s)
	p.send("NOOP")
	p.want("+OK", "server", "maildrop")
	if seen != [2]int{1, 2} {
		t.Errorf("session is %d of the maildrop and %d of the server, want 1 and 2", seen[0], seen[1])
	}
	m.ClearFaults()
	p.send("NOOP", "QUIT")
	p.want("+OK", "server", "+OK bye")
}
