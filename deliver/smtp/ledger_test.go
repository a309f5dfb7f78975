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

// optionsOn returns options with a spool, and so a ledger, on a file system in memory.
func optionsOn(t *testing.T, addr string, fsys *durabletest.FS) smtp.Options {
	opts := options(t, addr)
	opts.Spool = spool.New("/spool", fsys)
	return opts
}

// After a power cut, what was reported as landed still counts as landed, and a recipient
// that has the message is not sent it again.
func TestLedgerAfterPowerCut(t *testing.T) {
	srv := &scripted{lmtp: true}
	srv.reply = func(_ int, verb, to string) string {
		if verb == "message" && strings.HasPrefix(to, "b@") && len(srv.commands("DATA")) == 2 {
			return "450 4.2.0 later"
		}
		return ""
	}
	srv.start(t)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
	opts.LMTP = true
	s := newSink(t, opts)
	o := send(t, t.Context(), s, "", body(0), body(1), body(2))
	o.wantLanded(t, 0, 2)
	s.Close()
	cuts := 0
	for after := range disk.PowerCuts() {
		cuts++
		opts := optionsOn(t, srv.addr, after)
		opts.LMTP = true
		s := newSink(t, opts)
		for n, want := range []deliver.Verdict{deliver.Landed, deliver.Unknown, deliver.Landed} {
			if v, err := s.Settle(t.Context(), o.promises[n].Token); v != want || err != nil {
				t.Errorf("Settle %d = %v, %v, want %v, with\n%s", n, v, err, want, after.Tree())
			}
		}
		mails := []deliver.Mail{{Account: "work", UID: "1"}}
		before := len(srv.commands("RCPT"))
		sendMails(t, t.Context(), s, mails, []string{body(1)}).wantLanded(t, 0)
		if sent := srv.commands("RCPT")[before:]; len(sent) != 1 || !strings.Contains(sent[0], "b@") {
			t.Errorf("sent again to %q, with\n%s", sent, after.Tree())
		}
		s.Close()
	}
	if cuts == 0 {
		t.Error("the power was never cut")
	}
}

// If the ledger cannot be written after the server has accepted a message, the batch
// ends with an error, but the message is reported as landed.
func TestLedgerNotWritable(t *testing.T) {
	for _, verb := range []durabletest.Verb{durabletest.Write, durabletest.Sync} {
		srv := &scripted{}
		srv.start(t)
		disk := durabletest.New()
		failing := false
		disk.OnOp(func(op durabletest.Op) error {
			if failing && op.Verb == verb && strings.Contains(op.Path, "taken-") {
				return syscall.EIO
			}
			return nil
		})
		opts := optionsOn(t, srv.addr, disk)
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

// Sweep empties the ledger when none of its entries is needed any more, not before.
func TestSweepEmptiesLedger(t *testing.T) {
	srv := &scripted{lmtp: true, reply: replyOnce(map[string]string{"RCPT b@": "450 later"})}
	srv.start(t)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
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
		t.Errorf("the recipient that has the message is forgotten:\n%s", disk.Tree())
	}
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	if !strings.HasSuffix(strings.TrimSpace(tree()), `""`) || strings.Count(disk.Tree(), "\n") != 2 {
		t.Errorf("not only an empty ledger is left:\n%s", disk.Tree())
	}
}

// Sweep compacts the ledger: of many messages it keeps the one that a recipient still
// refuses. Wherever Sweep is interrupted by a power cut, the ledger knows who has that
// message.
func TestSweepCompactsLedger(t *testing.T) {
	srv := &scripted{lmtp: true, reply: replyAlways("RCPT", "b@", "550 5.1.1 no such user")}
	srv.start(t)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
	opts.LMTP, opts.To = true, nil
	refused := deliver.Mail{Account: "work", UID: "refused", Recipients: []string{"a@example.org", "b@example.org"}}
	mails, wire := []deliver.Mail{refused}, []string{body(0)}
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
			// The next Sweep completes what an interrupted one began.
			if err := sweepOn(cut); err != nil {
				t.Fatal(err)
			}
			if tree := cut.Tree(); strings.Count(tree, "taken-") != 1 || strings.Contains(tree, "c@example.org") || !strings.Contains(tree, "a@example.org") {
				t.Errorf("cut at operation %d: the ledger is\n%s", op, tree)
			}
			before := len(srv.commands("RCPT"))
			sendMails(t, t.Context(), newSink(t, opts), mails[:1], wire[:1]).wantLanded(t)
			if sent := srv.commands("RCPT")[before:]; len(sent) != 1 || !strings.Contains(sent[0], "b@") {
				t.Errorf("cut at operation %d: sent again to %q", op, sent)
			}
		}
	}
	if cuts < 5 {
		t.Errorf("the power was cut %d times only", cuts)
	}
}

// Two sinks for one server keep their deliveries apart: each delivers the message, though
// the other has.
func TestLedgerOfTwoSinks(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	disk := durabletest.New()
	one, two := optionsOn(t, srv.addr, disk), optionsOn(t, srv.addr, disk)
	one.Name, two.Name = "one", "two"
	a, b := newSink(t, one), newSink(t, two)
	first := send(t, t.Context(), a, "", body(0))
	first.wantLanded(t, 0)
	second := send(t, t.Context(), b, "", body(0))
	second.wantLanded(t, 0)
	send(t, t.Context(), b, "", body(0)).wantLanded(t, 0) // fetched and sent once more
	srv.wantBodies(t, body(0), body(0), body(0))
	for sink, o := range map[*smtp.Sink]outcome{a: first, b: second} {
		wantVerdict(t, sink, o.promises[0], deliver.Landed)
	}
}

// A message that is fetched again is recognised though the trace fields before it have
// changed. Mail.Content is what identifies it.
func TestRecognisedByContent(t *testing.T) {
	srv := &scripted{lmtp: true, reply: replyOnce(map[string]string{"message b@": "450 4.2.0 later"})}
	srv.start(t)
	opts := options(t, srv.addr)
	opts.LMTP = true
	s := newSink(t, opts)
	sendWith := func(field string) outcome {
		mail := deliver.Mail{Account: "work", UID: "0", Content: func() []byte { return []byte(body(0)) }}
		return sendMails(t, t.Context(), s, []deliver.Mail{mail}, []string{field + body(0)})
	}
	sendWith("Received: by here; 1 Jan 2026\r\n").wantLanded(t)
	sendWith("Received: by here; 12 Jan 2026\r\n").wantLanded(t, 0)
	if sent := srv.commands("RCPT"); len(sent) != 3 || !strings.Contains(sent[2], "b@") {
		t.Errorf("sent to %q", sent)
	}
}

// A message is also recognised when its unique-id has changed: some servers renumber all
// mail when a message is deleted. Of several messages with the same content, each
// recipient gets as many copies as there are messages.
func TestRecognisedUnderAnotherUID(t *testing.T) {
	for _, test := range []struct {
		uids []string // of the second batch; that of the first is "0"
		a, b int      // copies for each recipient, over both batches
	}{
		{uids: []string{"1"}, a: 1, b: 1},
		{uids: []string{"1", "2"}, a: 2, b: 2},
		{uids: []string{"0", "1"}, a: 2, b: 2},
		{uids: []string{"1", "0"}, a: 2, b: 2},
	} {
		srv := &scripted{lmtp: true, reply: replyOnce(map[string]string{"message b@": "450 4.2.0 later"})}
		srv.start(t)
		disk := durabletest.New()
		opts := optionsOn(t, srv.addr, disk)
		opts.LMTP = true
		send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t)
		s := newSink(t, opts)
		var mails []deliver.Mail
		for _, uid := range test.uids {
			mails = append(mails, deliver.Mail{Account: "work", UID: uid})
		}
		o := sendMails(t, t.Context(), s, mails, slices.Repeat([]string{body(0)}, len(mails)))
		if len(o.receipts) != len(mails) || o.err != nil || o.receipts[0].Err != nil {
			t.Errorf("%q: %v, %v", test.uids, o.receipts, o.err)
		}
		sent := srv.commands("RCPT")
		a := len(slices.DeleteFunc(slices.Clone(sent), func(c string) bool { return !strings.Contains(c, "a@") }))
		if b := len(sent) - a - 1; a != test.a || b != test.b { // b refused the first
			t.Errorf("%q: a has it %d times and b %d, want %d and %d", test.uids, a, b, test.a, test.b)
		}
		for _, p := range o.promises {
			if v, err := s.Settle(t.Context(), p.Token); v != deliver.Landed || err != nil {
				t.Errorf("%q: Settle = %v, %v", test.uids, v, err)
			}
		}
		if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), "example.org") {
			t.Errorf("%q: %v: the ledger is not emptied:\n%s", test.uids, err, disk.Tree())
		}
	}
}

// When one sink has delivered a message to all its recipients, another sink for the same
// server still knows which of its own recipients have it.
func TestPartialSuccessOfTwoSinks(t *testing.T) {
	srv := &scripted{lmtp: true, reply: replyOnce(map[string]string{"message b@": "450 4.2.0 later"})}
	srv.start(t)
	disk := durabletest.New()
	one, two := optionsOn(t, srv.addr, disk), optionsOn(t, srv.addr, disk)
	one.Name, two.Name = "one", "two"
	one.LMTP, two.LMTP = true, true
	two.To = []string{"a@example.org"}
	a, b := newSink(t, one), newSink(t, two)
	send(t, t.Context(), a, "", body(0)).wantLanded(t)
	send(t, t.Context(), b, "", body(0)).wantLanded(t, 0)
	if err := b.Sweep(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	srv.wantSentOnlyTo(t, "b@", func() { send(t, t.Context(), a, "", body(0)).wantLanded(t, 0) })
}

// A recipient that has a message is not sent it again after the sink's recipients or its
// server were changed, for example to correct an address.
func TestLedgerAfterConfigChange(t *testing.T) {
	for _, test := range []struct{ to, want []string }{
		{to: []string{"a@example.org", "c@example.org"}, want: []string{"RCPT TO:<c@example.org>"}},
		{to: []string{"b@example.org", "a@example.org"}, want: []string{"RCPT TO:<b@example.org>"}},
		{to: []string{"a@example.org"}, want: nil},
	} {
		srv := &scripted{lmtp: true, reply: replyOnce(map[string]string{"RCPT b@": "550 5.1.1 no such user"})}
		srv.start(t)
		disk := durabletest.New()
		opts := optionsOn(t, srv.addr, disk)
		opts.LMTP = true
		first := send(t, t.Context(), newSink(t, opts), "", body(0))
		first.wantLanded(t)

		elsewhere := &scripted{lmtp: true}
		elsewhere.start(t)
		opts.Server.Addr, opts.To = elsewhere.addr, test.to
		s := newSink(t, opts)
		again := send(t, t.Context(), s, "", body(0))
		again.wantLanded(t, 0)
		if sent := elsewhere.commands("RCPT"); !slices.Equal(sent, test.want) {
			t.Errorf("sent again to %q, want %q", sent, test.want)
		}
		wantVerdict(t, s, again.promises[0], deliver.Landed)
		// If a message that all recipients have comes again, it is delivered again.
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
		if sent := elsewhere.commands("RCPT")[len(test.want):]; len(sent) != len(test.to) {
			t.Errorf("once more: sent to %q", sent)
		}
		if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), "example.org") {
			t.Errorf("%v: the ledger is not emptied:\n%s", err, disk.Tree())
		}
	}
}

// However long one recipient refuses a message, the other is sent it once. A month after
// the last try, Sweep removes the entry from the ledger.
func TestRefusedForMonths(t *testing.T) {
	srv := &scripted{lmtp: true, reply: replyAlways("RCPT", "b@", "450 later")}
	srv.start(t)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.LMTP, opts.Now = true, func() time.Time { return now }
	s := newSink(t, opts)
	sentTo := func(who string) (n int) {
		for _, sent := range srv.commands("RCPT") {
			if strings.Contains(sent, who) {
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
	for _, remembered := range []bool{true, false} {
		if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), `""`) == remembered {
			t.Errorf("%v: want it remembered: %v\n%s", err, remembered, disk.Tree())
		}
		now = now.Add(31 * day)
	}
}

// When an account is renamed, its ledger goes with it and replaces the ledger that an
// earlier account of the new name left.
func TestRename(t *testing.T) {
	srv := &scripted{lmtp: true, reply: replyAlways("RCPT", "b@", "450 later")}
	srv.start(t)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
	opts.LMTP = true
	sendAs := func(account string, n int) []string {
		before := len(srv.commands("RCPT"))
		mails := []deliver.Mail{{Account: account, UID: "0"}}
		sendMails(t, t.Context(), newSink(t, opts), mails, []string{body(n)}).wantLanded(t)
		return srv.commands("RCPT")[before:]
	}
	sendAs("work", 0)
	sendAs("office", 1)
	for range 2 { // the second call has nothing left to do
		if err := smtp.Rename(opts.Spool, opts.Name, "work", "office"); err != nil {
			t.Fatal(err)
		}
	}
	if sent := sendAs("office", 0); len(sent) != 1 || !strings.Contains(sent[0], "b@") {
		t.Errorf("the old account's mail is sent to %q", sent)
	}
	for _, test := range []struct {
		account string
		n       int
	}{{"office", 1}, {"work", 0}} {
		if sent := sendAs(test.account, test.n); len(sent) != 2 {
			t.Errorf("another account's mail is sent to %q", sent)
		}
	}
}

// startRefusing starts an LMTP server that replies 450 to a recipient that contains
// *whom, unless that is empty.
func startRefusing(t *testing.T, whom *string) *scripted {
	srv := &scripted{lmtp: true, reply: func(_ int, verb, line string) string {
		if verb == "RCPT" && *whom != "" && strings.Contains(line, *whom) {
			return "450 later"
		}
		return ""
	}}
	srv.start(t)
	return srv
}

// A message that comes again after more than a month is a new delivery to all recipients.
// That a recipient accepted it the first time does not count for the second.
func TestEntryExpires(t *testing.T) {
	refuse := ""
	srv := startRefusing(t, &refuse)
	opts := optionsOn(t, srv.addr, durabletest.New())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.LMTP, opts.Now = true, func() time.Time { return now }
	s := newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	now = now.Add(31 * 24 * time.Hour)
	refuse = "b@"
	send(t, t.Context(), s, "", body(0)).wantLanded(t)
	refuse = ""
	srv.wantSentOnlyTo(t, "b@", func() { send(t, t.Context(), s, "", body(0)).wantLanded(t, 0) })
}

// If a message that all recipients have is to be delivered again, its new promise is
// Unknown until it was sent again.
func TestSettleOfSecondDelivery(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	opts := optionsOn(t, srv.addr, durabletest.New())
	s := newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	o := send(t, cancelled, s, "", body(0))
	wantVerdict(t, s, o.promises[0], deliver.Unknown)
}

// An entry behind a line that a power cut has left incomplete can be read.
func TestIncompleteLedgerLine(t *testing.T) {
	refuse := "b@"
	srv := startRefusing(t, &refuse)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
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
	srv.wantSentOnlyTo(t, "b@", func() { send(t, t.Context(), s, "", body(1)).wantLanded(t, 0) })
}

// The ledger of a message with very many recipients can be read.
func TestLedgerOfManyRecipients(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	opts := optionsOn(t, srv.addr, durabletest.New())
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

// If the disk of the spool is full, the error and its hint name the spool.
func TestSpoolFull(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	disk := durabletest.New()
	disk.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Write {
			return syscall.ENOSPC
		}
		return nil
	})
	b, err := newSink(t, optionsOn(t, srv.addr, disk)).Begin(t.Context())
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

// listCounter is a file system that counts how often a folder is listed.
type listCounter struct {
	durable.FS
	n int
}

func (c *listCounter) ReadDir(name string) ([]fs.DirEntry, error) {
	c.n++
	return c.FS.ReadDir(name)
}

// With thousands of accounts, the folder of the spool holds thousands of ledgers.
// Therefore it is not listed once for each message, and the ledger of an account that
// gets no more mail is removed.
func TestManyLedgers(t *testing.T) {
	srv := &scripted{lmtp: true}
	srv.start(t)
	disk := durabletest.New()
	folder := &listCounter{FS: disk}
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
