package imap_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/deliver/imap"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
	"github.com/mailhaul/mailhaul/testdata"
)

// corpus returns the messages of testdata in wire form, by name.
func corpus(t *testing.T) map[string]string {
	t.Helper()
	messages, err := testdata.All()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range messages {
		text = strings.ReplaceAll(text, "\r\n", "\n")
		messages[name] = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return messages
}

// arrived is when all messages of the tests have arrived.
var arrived = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// stage stages messages and prepares the batch.
func stage(t *testing.T, s deliver.Sink, messages ...string) (deliver.Batch, []deliver.Promise) {
	t.Helper()
	b, err := s.Begin(t.Context())
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	t.Cleanup(func() { b.Abort() })
	for _, m := range messages {
		mail := deliver.Mail{Account: "work", Arrived: arrived, Date: envelope.Parse([]byte(m)).Date}
		if _, err := b.Stage(t.Context(), mail, strings.NewReader(m)); err != nil {
			t.Fatalf("Stage: %v", err)
		}
	}
	promises, err := b.Prepare(t.Context())
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	return b, promises
}

// commit commits a batch and returns the receipts by ticket.
func commit(ctx context.Context, b deliver.Batch) (map[deliver.Ticket]deliver.Receipt, error) {
	receipts := make(map[deliver.Ticket]deliver.Receipt)
	err := b.Commit(ctx, func(r deliver.Receipt) error {
		if _, twice := receipts[r.Ticket]; twice {
			return fmt.Errorf("ticket %d was reported twice", r.Ticket)
		}
		receipts[r.Ticket] = r
		return nil
	})
	return receipts, err
}

// put delivers messages in one batch. All must land.
func put(t *testing.T, s deliver.Sink, messages ...string) {
	t.Helper()
	b, _ := stage(t, s, messages...)
	receipts, err := commit(t.Context(), b)
	if err != nil || len(receipts) != len(messages) {
		t.Fatalf("Commit: %d receipts for %d messages, %v", len(receipts), len(messages), err)
	}
	for _, r := range receipts {
		if r.Err != nil {
			t.Errorf("message %d: %v", r.Ticket, r.Err)
		}
	}
}

// startDovecot starts a Dovecot with one account until the test ends. config is
// added to its configuration.
func startDovecot(t *testing.T, config string, mechanisms ...string) *servertest.Server {
	t.Helper()
	s := servertest.Dovecot(t, servertest.DovecotOptions{Protocol: "imap", Mechanisms: mechanisms, Config: config})
	s.AddUser(user, pass)
	return s
}

// TestDovecotLogins has more sinks than Dovecot has login processes. Each encrypted connection
// occupies one, so that the sinks must share their connections.
func TestDovecotLogins(t *testing.T) {
	d := startDovecot(t, "service imap-login {\n process_limit = 8\n}\n")
	o := options(d.TLSAddr, durable.OS, t.TempDir())
	o.Server.Security, o.Server.TLS = remote.ImplicitTLS, d.TLSConfig()
	o.Pool = remote.NewPool(2)
	for range 12 {
		put(t, open(t, o), letter("a", 1))
	}
	if got, err := mailbox(o); len(got) != 12 || err != nil {
		t.Errorf("%d messages, %v", len(got), err)
	}
}

// TestDovecotOneConnection has sinks for several folders of a user, for whom the server allows
// one connection. The sinks share it, and each uses its own folder.
func TestDovecotOneConnection(t *testing.T) {
	d := startDovecot(t, "protocol imap {\n mail_max_userip_connections = 1\n}\n")
	o := options(d.Addr, durable.OS, t.TempDir())
	o.Pool, o.Create, o.Login = remote.NewPool(8), true, "of all"
	var sinks []*imap.Sink
	for _, o.Folder = range []string{"INBOX", "Lists", "Entwürfe"} {
		sinks = append(sinks, open(t, o))
	}
	for round := range 2 {
		var batches []deliver.Batch
		var promises []deliver.Promise
		expect := func(want deliver.Verdict) {
			t.Helper()
			for i, s := range sinks {
				if v, err := s.Settle(t.Context(), promises[i].Token); v != want || err != nil {
					t.Errorf("round %d, sink %d: %v, %v, want %v", round, i, v, err, want)
				}
			}
		}
		for i, s := range sinks {
			b, p := stage(t, s, letter(fmt.Sprint("r", round), 10*i))
			batches, promises = append(batches, b), append(promises, p...)
		}
		expect(deliver.NotLanded)
		for _, b := range batches {
			if receipts, err := commit(t.Context(), b); err != nil || len(receipts) != 1 || receipts[0].Err != nil {
				t.Errorf("round %d: %+v, %v", round, receipts, err)
			}
		}
		expect(deliver.Landed)
	}
	o.Login = "of nobody else"
	if _, err := open(t, o).Begin(t.Context()); delivertest.FaultOf(err) != deliver.FaultTemporary || !strings.Contains(err.Error(), "LIMIT") {
		t.Errorf("a second connection: %v", err)
	}
}

// TestDovecot has real messages arrive in a folder that it creates.
func TestDovecot(t *testing.T) {
	d := startDovecot(t, "")
	o := options(d.Addr, durable.OS, t.TempDir())
	o.Folder, o.Create, o.Flags = "Entwürfe & 日本語", true, []string{`\Seen`, "$Forwarded", "haul"}
	s := open(t, o)
	messages := corpus(t)
	var all []string
	for _, m := range messages {
		all = append(all, m)
	}
	put(t, s, all...)
	got, err := mailbox(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(all) {
		t.Fatalf("%d messages arrived, of %d", len(got), len(all))
	}
	for i, m := range got { // in order
		if want := canon(all[i]); m.text != want {
			t.Errorf("message %d differs (-want +got):\n%s", i, cmp.Diff(want, m.text))
		}
		var flags []string
		for _, f := range m.flags {
			if f != `\Recent` {
				flags = append(flags, string(f))
			}
		}
		slices.Sort(flags)
		if want := []string{"$Forwarded", `\Seen`, "haul"}; !slices.Equal(flags, want) {
			t.Errorf("message %d: flags %q, want %q", i, flags, want)
		}
		want := envelope.Parse([]byte(all[i])).Date
		if want.IsZero() || want.After(arrived) {
			want = arrived
		}
		if !m.date.Equal(want) {
			t.Errorf("message %d: INTERNALDATE %v, want %v", i, m.date, want)
		}
	}
}

// TestDovecotNoFolder has a folder that is not there. Dovecot gives no code to
// say so.
func TestDovecotNoFolder(t *testing.T) {
	o := options(startDovecot(t, "").Addr, durable.OS, t.TempDir())
	o.Folder = "Nope"
	s := open(t, o)
	_, began := s.Begin(t.Context())
	_, checked := s.Check(t.Context())
	for _, err := range []error{began, checked} {
		if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Hint, "create_folder: true") {
			t.Errorf("%v, want a person to be told of create_folder", err)
		}
	}
	o.Create = true
	s = open(t, o)
	if exists, err := s.Check(t.Context()); exists || err != nil {
		t.Errorf("Check = %v, %v before the folder is made", exists, err)
	}
	put(t, s, letter("a", 100))
	if exists, err := s.Check(t.Context()); !exists || err != nil {
		t.Errorf("Check = %v, %v after that", exists, err)
	}
}

// TestDovecotQuota fills a mailbox.
func TestDovecotQuota(t *testing.T) {
	d := startDovecot(t, `
mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=20K
}
`)
	o := options(d.Addr, durable.OS, t.TempDir())
	s := open(t, o)
	big := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 500)
	b, _ := stage(t, s, "Subject: small\r\n\r\nx\r\n", big)
	receipts, err := commit(t.Context(), b)
	if err != nil || len(receipts) != 2 || receipts[0].Err != nil {
		t.Fatalf("%+v, %v", receipts, err)
	}
	wantQuotaError(t, receipts[1].Err)
	b, _ = stage(t, s, big, big)
	receipts, err = commit(t.Context(), b)
	if len(receipts) != 0 {
		t.Errorf("a full mailbox was held against the messages: %+v", receipts)
	}
	wantQuotaError(t, err)
	if got, err := mailbox(o); len(got) != 1 || err != nil {
		t.Errorf("%d messages, %v", len(got), err)
	}
}

// TestDovecotMaxMailSize has a message that is larger than the server takes.
func TestDovecotMaxMailSize(t *testing.T) {
	d := startDovecot(t, `
mail_plugins = quota
plugin {
  quota = maildir:User quota
  quota_max_mail_size = 20K
}
`)
	o := options(d.Addr, durable.OS, t.TempDir())
	b, _ := stage(t, open(t, o), letter("a", 1), letter("b", 30_000), letter("c", 1))
	receipts, err := commit(t.Context(), b)
	if err != nil || len(receipts) != 3 || delivertest.FaultOf(receipts[1].Err) != deliver.FaultMessage {
		t.Errorf("%+v, %v", receipts, err)
	}
	if got, err := mailbox(o); len(got) != 2 || err != nil {
		t.Errorf("%d messages, %v", len(got), err)
	}
}

// wantQuotaError checks that an error is about a quota.
func wantQuotaError(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Error(), "OVERQUOTA") || !strings.Contains(e.Hint, "quota") {
		t.Errorf("%v, want an error about the quota", err)
	}
}

// noMultiAppend is a configuration of Dovecot without MULTIAPPEND.
const noMultiAppend = "imap_capability = IMAP4rev1 LITERAL+ UIDPLUS\n"

// TestDovecotKilled kills the server in the middle of a batch. Each message must arrive once.
func TestDovecotKilled(t *testing.T) {
	d := startDovecot(t, noMultiAppend)
	o := options(d.Addr, durable.OS, t.TempDir())
	s := open(t, o)
	messages := numberedMessages(300, 3000)
	b, promises := stage(t, s, messages...)
	reported := make(map[deliver.Ticket]bool)
	err := b.Commit(t.Context(), func(r deliver.Receipt) error {
		if r.Err != nil {
			t.Errorf("message %d: %v", r.Ticket, r.Err)
		}
		if reported[r.Ticket] = true; len(reported) == 20 {
			d.Kill()
		}
		return nil
	})
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary {
		t.Fatalf("Commit = %v", err)
	}
	if len(reported) == len(messages) {
		t.Fatal("the server was killed too late")
	}
	d.Restart()
	settleAndDeliver(t, s, messages, promises, reported)
	wantEachOnce(t, o, messages)
}

// settleAndDeliver settles the promises that were not reported, and delivers the messages
// that have not landed.
func settleAndDeliver(t *testing.T, s *imap.Sink, messages []string, promises []deliver.Promise, reported map[deliver.Ticket]bool) {
	t.Helper()
	var lost []string
	for i, p := range promises {
		if reported[p.Ticket] {
			continue
		}
		v, err := s.Settle(t.Context(), p.Token)
		if err != nil {
			t.Fatalf("Settle: %v", err)
		}
		if v != deliver.Landed {
			lost = append(lost, messages[i])
		}
	}
	t.Logf("%d reported, %d settled, %d sent again", len(reported), len(messages)-len(reported)-len(lost), len(lost))
	put(t, s, lost...)
}

// wantEachOnce checks that the folder holds each of the messages once, and no others.
func wantEachOnce(t *testing.T, o imap.Options, messages []string) {
	t.Helper()
	got, err := mailbox(o)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, m := range got {
		count[m.text]++
	}
	for i, m := range messages {
		if n := count[m]; n != 1 {
			t.Errorf("message %d is there %d times", i, n)
		}
	}
	if len(got) != len(messages) {
		t.Errorf("%d messages are there, of %d", len(got), len(messages))
	}
}

// numberedMessages returns n messages; every other one has at least size octets.
func numberedMessages(n, size int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("Message-ID: <%d@example.org>\r\n\r\n%s\r\n", i, strings.Repeat("x", i%2*size))
	}
	return list
}

// TestPipelining holds back the answers to a hundred messages until all of them were sent. A
// client that waits for an answer earlier waits for ever.
func TestPipelining(t *testing.T) {
	const total, flight = 2000, 100
	d := startDovecot(t, noMultiAppend+"mail_fsync = never\n")
	sent := make(chan struct{}, total)
	answers := 0
	addr := proxy(t, d.Addr, hooks{
		up: func(line string) bool {
			if strings.Contains(line, " APPEND ") {
				sent <- struct{}{}
			}
			return true
		},
		down: func(line string) bool {
			if !strings.Contains(line, "APPENDUID") {
				return true
			}
			if answers%flight == 0 {
				for range flight {
					<-sent
				}
			}
			answers++
			return true
		},
	})
	o := options(addr, durable.OS, t.TempDir())
	s := open(t, o)
	messages := numberedMessages(total, 5000)
	put(t, s, messages...)
	if answers != total || len(sent) != 0 {
		t.Errorf("%d answers, %d messages more than that", answers, len(sent))
	}
	o.Server.Addr = d.Addr
	wantEachOnce(t, o, messages)
}
