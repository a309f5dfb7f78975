package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// inMemory returns options with a spool on a file system in memory.
func inMemory(t *testing.T, addr string, fsys *durabletest.FS) smtp.Options {
	opts := options(t, addr)
	opts.Spool = spool.New("/spool", fsys)
	return opts
}

// Whatever a power cut takes away, what was reported as landed is known to
// have landed, and who has a part of the mail is not sent it again.
func TestPowerCut(t *testing.T) {
	srv := &scripted{lmtp: true}
	srv.reply = func(_ int, verb, to string) string {
		if verb == "message" && strings.HasPrefix(to, "b@") && len(srv.said("DATA")) == 2 {
			return "450 4.2.0 later"
		}
		return ""
	}
	script(t, srv)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
	opts.LMTP = true
	s := newSink(t, opts)
	o := send(t, t.Context(), s, "", body(0), body(1), body(2))
	o.wantLanded(t, 0, 2)
	s.Close()
	cuts := 0
	for after := range disk.PowerCuts() {
		cuts++
		opts := inMemory(t, srv.addr, after)
		opts.LMTP = true
		s := newSink(t, opts)
		for n, want := range []deliver.Verdict{deliver.Landed, deliver.Unknown, deliver.Landed} {
			if v, err := s.Settle(t.Context(), o.promises[n].Token); v != want || err != nil {
				t.Errorf("Settle %d = %v, %v, want %v, with\n%s", n, v, err, want, after.Tree())
			}
		}
		mails := []deliver.Mail{{Account: "work", UID: "1"}}
		before := len(srv.said("RCPT"))
		sendMails(t, t.Context(), s, mails, []string{body(1)}).wantLanded(t, 0)
		if said := srv.said("RCPT")[before:]; len(said) != 1 || !strings.Contains(said[0], "b@") {
			t.Errorf("sent again to %q, with\n%s", said, after.Tree())
		}
		s.Close()
	}
	if cuts == 0 {
		t.Error("the power was never cut")
	}
}

// A disk that fails after the server has taken a message ends the batch, and
// the message has landed all the same.
func TestLedgerFails(t *testing.T) {
	for _, verb := range []durabletest.Verb{durabletest.Write, durabletest.Sync} {
		srv := &scripted{}
		script(t, srv)
		disk := durabletest.New()
		failing := false
		disk.OnOp(func(op durabletest.Op) error {
			if failing && op.Verb == verb && strings.Contains(op.Path, "taken-") {
				return syscall.EIO
			}
			return nil
		})
		opts := inMemory(t, srv.addr, disk)
		s := newSink(t, opts)
		b, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader(body(0))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		failing = true
		landed := 0
		err = b.Commit(t.Context(), func(r deliver.Receipt) error {
			if landed++; r.Err != nil {
				t.Error(r.Err)
			}
			return nil
		})
		if landed != 1 {
			t.Errorf("%d messages landed, want 1", landed)
		}
		if wantError(t, err, deliver.FaultMachine, "ledger"); !errors.Is(err, syscall.EIO) {
			t.Errorf("Commit = %v", err)
		}
		srv.wantBodies(t, body(0))
	}
}

// The ledger is emptied once nothing in it is needed, and kept until then.
func TestPrune(t *testing.T) {
	srv := &scripted{lmtp: true, reply: on(map[string]string{"RCPT b@": "450 later"})}
	script(t, srv)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
	opts.LMTP = true
	s := newSink(t, opts)
	send(t, t.Context(), s, "", body(0), body(1)).wantLanded(t, 1)
	tree := func() string {
		if err := s.Sweep(t.Context(), "work"); err != nil {
			t.Fatal(err)
		}
		return disk.Tree()
	}
	if !strings.Contains(tree(), "a@example.org") {
		t.Errorf("who has the message is forgotten:\n%s", disk.Tree())
	}
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	if !strings.HasSuffix(strings.TrimSpace(tree()), `""`) || strings.Count(disk.Tree(), "\n") != 2 {
		t.Errorf("not only an empty ledger is left:\n%s", disk.Tree())
	}
}

// A message that is never taken does not let the ledger grow for ever, and
// whenever the power is cut, it stays known who has it.
func TestCompact(t *testing.T) {
	srv := &scripted{lmtp: true, reply: always("RCPT", "b@", "550 5.1.1 no such user")}
	script(t, srv)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
	opts.LMTP, opts.To = true, nil
	stuck := deliver.Mail{Account: "work", UID: "stuck", Recipients: []string{"a@example.org", "b@example.org"}}
	mails, wire := []deliver.Mail{stuck}, []string{body(0)}
	for n := range 150 {
		mails = append(mails, deliver.Mail{Account: "work", UID: fmt.Sprint(n), Recipients: []string{"c@example.org"}})
		wire = append(wire, body(n))
	}
	sendMails(t, t.Context(), newSink(t, opts), mails, wire)

	sweepOn := func(fsys *durabletest.FS) error {
		opts.Spool = spool.New("/spool", fsys)
		return newSink(t, opts).Sweep(t.Context(), "work")
	}
	cuts := 0
	for op, swept := 1, false; !swept; op++ {
		fsys := disk.Fork()
		fsys.CrashAt(op)
		swept = sweepOn(fsys) == nil
		for cut := range fsys.PowerCuts() {
			cuts++
			// Crashed or not, the next sweep does what is to be done.
			if err := sweepOn(cut); err != nil {
				t.Fatal(err)
			}
			if tree := cut.Tree(); strings.Count(tree, "taken-") != 1 || strings.Contains(tree, "c@example.org") || !strings.Contains(tree, "a@example.org") {
				t.Errorf("cut at operation %d: the ledger is\n%s", op, tree)
			}
			before := len(srv.said("RCPT"))
			sendMails(t, t.Context(), newSink(t, opts), mails[:1], wire[:1]).wantLanded(t)
			if said := srv.said("RCPT")[before:]; len(said) != 1 || !strings.Contains(said[0], "b@") {
				t.Errorf("cut at operation %d: sent again to %q", op, said)
			}
		}
	}
	if cuts < 5 {
		t.Errorf("the power was cut %d times only", cuts)
	}
}

// Two sinks for one server, with recipients of their own, do not take what the
// other delivered for what they did.
func TestTwoSinks(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
	disk := durabletest.New()
	one, two := inMemory(t, srv.addr, disk), inMemory(t, srv.addr, disk)
	one.Name, two.Name = "one", "two"
	a, b := newSink(t, one), newSink(t, two)
	first := send(t, t.Context(), a, "", body(0))
	first.wantLanded(t, 0)
	second := send(t, t.Context(), b, "", body(0))
	second.wantLanded(t, 0)
	send(t, t.Context(), b, "", body(0)).wantLanded(t, 0) // it is wanted again
	srv.wantBodies(t, body(0), body(0), body(0))
	for sink, o := range map[*smtp.Sink]outcome{a: first, b: second} {
		if v, err := sink.Settle(t.Context(), o.promises[0].Token); v != deliver.Landed || err != nil {
			t.Errorf("Settle: %v, %v", v, err)
		}
	}
}

// A message that comes again is the same message, though the fields that were
// put before it tell another time.
func TestChangedMessage(t *testing.T) {
	srv := &scripted{lmtp: true, reply: on(map[string]string{"message b@": "450 4.2.0 later"})}
	script(t, srv)
	opts := options(t, srv.addr)
	opts.LMTP = true
	s := newSink(t, opts)
	again := func(field string) outcome {
		mail := deliver.Mail{Account: "work", UID: "0", Content: func() []byte { return []byte(body(0)) }}
		return sendMails(t, t.Context(), s, []deliver.Mail{mail}, []string{field + body(0)})
	}
	again("Received: by here; 1 Jan 2026\r\n").wantLanded(t)
	again("Received: by here; 12 Jan 2026\r\n").wantLanded(t, 0)
	if said := srv.said("RCPT"); len(said) != 3 || !strings.Contains(said[2], "b@") {
		t.Errorf("sent to %q", said)
	}
}

// It is so, too, if the server calls it by another name since: some number all their
// mail anew when a message is deleted. Of messages that say the same each recipient
// gets as many as there are.
func TestRenumbered(t *testing.T) {
	for _, test := range []struct {
		again []string // unique-ids
		a, b  int      // how many they get of it in all
	}{
		{[]string{"1"}, 1, 1},
		{[]string{"1", "2"}, 2, 2},
		{[]string{"0", "1"}, 2, 2},
		{[]string{"1", "0"}, 2, 2},
	} {
		srv := &scripted{lmtp: true, reply: on(map[string]string{"message b@": "450 4.2.0 later"})}
		script(t, srv)
		disk := durabletest.New()
		opts := inMemory(t, srv.addr, disk)
		opts.LMTP = true
		send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t)
		s := newSink(t, opts)
		var mails []deliver.Mail
		for _, uid := range test.again {
			mails = append(mails, deliver.Mail{Account: "work", UID: uid})
		}
		o := sendMails(t, t.Context(), s, mails, slices.Repeat([]string{body(0)}, len(mails)))
		if len(o.receipts) != len(mails) || o.err != nil || o.receipts[0].Err != nil {
			t.Errorf("%q: %v, %v", test.again, o.receipts, o.err)
		}
		said := srv.said("RCPT")
		a := len(slices.DeleteFunc(slices.Clone(said), func(c string) bool { return !strings.Contains(c, "a@") }))
		if b := len(said) - a - 1; a != test.a || b != test.b { // b refused the first
			t.Errorf("%q: a has it %d times and b %d, want %d and %d", test.again, a, b, test.a, test.b)
		}
		for _, p := range o.promises {
			if v, err := s.Settle(t.Context(), p.Token); v != deliver.Landed || err != nil {
				t.Errorf("%q: Settle = %v, %v", test.again, v, err)
			}
		}
		if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), "example.org") {
			t.Errorf("%q: %v: the ledger is not emptied:\n%s", test.again, err, disk.Tree())
		}
	}
}

// What one sink has delivered to everybody does not make another, of the same
// account on the same server, forget who has a part.
func TestTwoSinksPartly(t *testing.T) {
	srv := &scripted{lmtp: true, reply: on(map[string]string{"message b@": "450 4.2.0 later"})}
	script(t, srv)
	disk := durabletest.New()
	one, two := inMemory(t, srv.addr, disk), inMemory(t, srv.addr, disk)
	one.Name, two.Name = "one", "two"
	one.LMTP, two.LMTP = true, true
	two.To = []string{"a@example.org"}
	a, b := newSink(t, one), newSink(t, two)
	send(t, t.Context(), a, "", body(0)).wantLanded(t)
	send(t, t.Context(), b, "", body(0)).wantLanded(t, 0)
	if err := b.Sweep(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	srv.onlyTo(t, "b@", func() { send(t, t.Context(), a, "", body(0)).wantLanded(t, 0) })
}

// Whoever has a message is not sent it again when the sink's recipients or its
// server change, as they do when somebody puts a wrong address right.
func TestOtherRecipients(t *testing.T) {
	for _, test := range []struct{ to, want []string }{
		{[]string{"a@example.org", "c@example.org"}, []string{"RCPT TO:<c@example.org>"}},
		{[]string{"b@example.org", "a@example.org"}, []string{"RCPT TO:<b@example.org>"}},
		{[]string{"a@example.org"}, nil},
	} {
		srv := &scripted{lmtp: true, reply: on(map[string]string{"RCPT b@": "550 5.1.1 no such user"})}
		script(t, srv)
		disk := durabletest.New()
		opts := inMemory(t, srv.addr, disk)
		opts.LMTP = true
		first := send(t, t.Context(), newSink(t, opts), "", body(0))
		first.wantLanded(t)

		elsewhere := &scripted{lmtp: true}
		script(t, elsewhere)
		opts.Server.Addr, opts.To = elsewhere.addr, test.to
		s := newSink(t, opts)
		again := send(t, t.Context(), s, "", body(0))
		again.wantLanded(t, 0)
		if said := elsewhere.said("RCPT"); !slices.Equal(said, test.want) {
			t.Errorf("sent again to %q, want %q", said, test.want)
		}
		if v, err := s.Settle(t.Context(), again.promises[0].Token); v != deliver.Landed || err != nil {
			t.Errorf("Settle = %v, %v", v, err)
		}
		// What everybody has is wanted again if it comes again.
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
		if said := elsewhere.said("RCPT")[len(test.want):]; len(said) != len(test.to) {
			t.Errorf("what was wanted again was sent to %q", said)
		}
		if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), "example.org") {
			t.Errorf("%v: the ledger is not emptied:\n%s", err, disk.Tree())
		}
	}
}

// However long somebody does not take a message, the others are sent it once;
// if it does not come again, it is forgotten.
func TestLongRefusal(t *testing.T) {
	srv := &scripted{lmtp: true, reply: always("RCPT", "b@", "450 later")}
	script(t, srv)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.LMTP, opts.Now = true, func() time.Time { return now }
	s := newSink(t, opts)
	sentTo := func(who string) (n int) {
		for _, said := range srv.said("RCPT") {
			if strings.Contains(said, who) {
				n++
			}
		}
		return n
	}
	const day = 24 * time.Hour
	for n, pause := range []time.Duration{0, day, 28 * day, 2 * day, 28 * day, 5 * day} {
		now = now.Add(pause)
		send(t, t.Context(), s, "", body(0)).wantLanded(t)
		if a, b := sentTo("a@"), sentTo("b@"); a != 1 || b != n+1 {
			t.Errorf("after %d tries sent to a %d times, to b %d times", n+1, a, b)
		}
	}
	for _, left := range []bool{true, false} {
		if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), `""`) == left {
			t.Errorf("%v: want it remembered: %v\n%s", err, left, disk.Tree())
		}
		now = now.Add(31 * day)
	}
}

// An account takes what is known of its mail along to another name, and finds
// nothing there that an account of that name left.
func TestRename(t *testing.T) {
	srv := &scripted{lmtp: true, reply: always("RCPT", "b@", "450 later")}
	script(t, srv)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
	opts.LMTP = true
	sendAs := func(account string, n int) []string {
		before := len(srv.said("RCPT"))
		mails := []deliver.Mail{{Account: account, UID: "0"}}
		sendMails(t, t.Context(), newSink(t, opts), mails, []string{body(n)}).wantLanded(t)
		return srv.said("RCPT")[before:]
	}
	sendAs("work", 0)
	sendAs("office", 1)
	for range 2 { // the second time there is nothing left to do
		if err := smtp.Rename(opts.Spool, opts.Name, "work", "office"); err != nil {
			t.Fatal(err)
		}
	}
	if said := sendAs("office", 0); len(said) != 1 || !strings.Contains(said[0], "b@") {
		t.Errorf("the old account's mail is sent to %q", said)
	}
	for _, test := range []struct {
		account string
		n       int
	}{{"office", 1}, {"work", 0}} {
		if said := sendAs(test.account, test.n); len(said) != 2 {
			t.Errorf("another account's mail is sent to %q", said)
		}
	}
}

// refusing runs a server that refuses, for now, the recipient that whom names, if any.
func refusing(t *testing.T, whom *string) *scripted {
	srv := &scripted{lmtp: true, reply: func(_ int, verb, line string) string {
		if verb == "RCPT" && *whom != "" && strings.Contains(line, *whom) {
			return "450 later"
		}
		return ""
	}}
	script(t, srv)
	return srv
}

// What was forgotten stays so: a message that is wanted again after a long time
// is owed to those who had it once.
func TestForgotten(t *testing.T) {
	refuse := ""
	srv := refusing(t, &refuse)
	opts := inMemory(t, srv.addr, durabletest.New())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.LMTP, opts.Now = true, func() time.Time { return now }
	s := newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	now = now.Add(31 * 24 * time.Hour)
	refuse = "b@"
	send(t, t.Context(), s, "", body(0)).wantLanded(t)
	refuse = ""
	srv.onlyTo(t, "b@", func() { send(t, t.Context(), s, "", body(0)).wantLanded(t, 0) })
}

// What is wanted again although all have it has not landed until it was sent again.
func TestWantedAgain(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
	opts := inMemory(t, srv.addr, durabletest.New())
	s := newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	dead, kill := context.WithCancel(t.Context())
	kill()
	o := send(t, dead, s, "", body(0))
	if v, err := s.Settle(t.Context(), o.promises[0].Token); v != deliver.Unknown || err != nil {
		t.Errorf("Settle = %v, %v, want %v", v, err, deliver.Unknown)
	}
}

// What is noted behind a line that a power cut has torn can be read.
func TestTornLine(t *testing.T) {
	refuse := "b@"
	srv := refusing(t, &refuse)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
	opts.LMTP = true
	s := newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t)
	entries, err := disk.ReadDir("/spool")
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	ledger, err := disk.OpenFile("/spool/"+entries[0].Name(), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Write([]byte(`{"key":"torn`)); err != nil {
		t.Fatal(err)
	}
	_ = ledger.Close()
	send(t, t.Context(), s, "", body(1)).wantLanded(t)
	refuse = ""
	srv.onlyTo(t, "b@", func() { send(t, t.Context(), s, "", body(1)).wantLanded(t, 0) })
}

// However many recipients a message has, the ledger can be read.
func TestLongLedger(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
	opts := inMemory(t, srv.addr, durabletest.New())
	opts.To = nil
	s := newSink(t, opts)
	mail := deliver.Mail{Account: "work"}
	for n := range 1500 {
		mail.Recipients = append(mail.Recipients, fmt.Sprintf("%s-%d@example.org", strings.Repeat("&", 50), n))
	}
	for range 3 {
		sendMails(t, t.Context(), s, []deliver.Mail{mail}, []string{body(0)}).wantLanded(t, 0)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if len(srv.bodies) != 3*15 {
		t.Errorf("%d transactions, want %d", len(srv.bodies), 3*15)
	}
}

// A full disk is the spool's, and the error says where that is.
func TestSpoolFull(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
	disk := durabletest.New()
	disk.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Write {
			return syscall.ENOSPC
		}
		return nil
	})
	b, err := newSink(t, inMemory(t, srv.addr, disk)).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	_, err = b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader(body(0)))
	wantError(t, err, deliver.FaultMachine, "/spool: ")
	if e, ok := errors.AsType[*deliver.Error](err); !ok || !strings.Contains(e.Hint, "/spool") {
		t.Errorf("no hint: %v", err)
	}
}

// listings is a file system that counts how often a folder is listed.
type listings struct {
	durable.FS
	n int
}

func (l *listings) ReadDir(name string) ([]fs.DirEntry, error) {
	l.n++
	return l.FS.ReadDir(name)
}

// With thousands of accounts there are thousands of ledgers in the spool's folder.
// So that is not listed for each message, and an account that gets no mail any
// more leaves nothing in it.
func TestManyLedgers(t *testing.T) {
	srv := &scripted{lmtp: true}
	script(t, srv)
	disk := durabletest.New()
	folder := &listings{FS: disk}
	opts := options(t, srv.addr)
	opts.LMTP, opts.Spool = true, spool.New("/spool", folder)
	s := newSink(t, opts)
	poll := func(bodies ...string) (listed int) {
		before := folder.n
		if err := s.Sweep(t.Context(), "work"); err != nil {
			t.Fatal(err)
		}
		if len(bodies) > 0 {
			send(t, t.Context(), s, "", bodies...)
		}
		return folder.n - before
	}
	one := poll(body(0))
	if many := poll(body(1), body(2), body(3), body(4)); many > one {
		t.Errorf("listed %d times for one message, %d times for four", one, many)
	}
	poll()
	if poll(); strings.Contains(disk.Tree(), "taken-") {
		t.Errorf("a ledger that nobody needs is left:\n%s", disk.Tree())
	}
	poll(body(5))
	srv.wantBodies(t, body(0), body(1), body(2), body(3), body(4), body(5))
}
