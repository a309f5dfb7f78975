package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// options returns options for a server without TLS, with two recipients and a spool on
// the disk.
func options(t *testing.T, addr string) smtp.Options {
	return smtp.Options{
		Server: remote.Server{Addr: addr, Security: remote.PlainText},
		Hello:  "client.example.org", To: []string{"a@example.org", "b@example.org"},
		Spool: spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS),
	}
}

func newSink(t *testing.T, o smtp.Options) *smtp.Sink {
	t.Helper()
	s, err := smtp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// outcome is the result of a batch.
type outcome struct {
	promises []deliver.Promise
	receipts map[int]deliver.Receipt // by ticket
	err      error                   // of Commit
}

// send delivers messages of one sender in a batch, with the unique-ids "0", "1" and so
// on. The context is that of Commit.
func send(t *testing.T, ctx context.Context, s *smtp.Sink, sender string, wire ...string) outcome {
	t.Helper()
	var mails []deliver.Mail
	for i := range wire {
		mails = append(mails, deliver.Mail{Account: "work", UID: fmt.Sprint(i), Sender: sender})
	}
	return sendMails(t, ctx, s, mails, wire)
}

// sendMails delivers messages in a batch. The context is that of Commit.
func sendMails(t *testing.T, ctx context.Context, s *smtp.Sink, mails []deliver.Mail, wire []string) outcome {
	t.Helper()
	b, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for i, w := range wire {
		mail := mails[i]
		if mail.Content == nil {
			mail.Content = func() []byte { return []byte(w) }
		}
		if _, err := b.Stage(t.Context(), mail, strings.NewReader(w)); err != nil {
			t.Fatal(err)
		}
	}
	o := outcome{receipts: make(map[int]deliver.Receipt)}
	if o.promises, err = b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.err = b.Commit(ctx, func(r deliver.Receipt) error {
		if _, twice := o.receipts[int(r.Ticket)]; twice {
			t.Errorf("ticket %d is reported twice", r.Ticket)
		}
		o.receipts[int(r.Ticket)] = r
		return nil
	})
	return o
}

// wantLanded checks that these tickets landed, and no others.
func (o outcome) wantLanded(t *testing.T, tickets ...int) {
	t.Helper()
	var got []int
	for n, r := range o.receipts {
		if r.Err == nil {
			got = append(got, n)
			if r.Where == "" {
				t.Errorf("ticket %d landed nowhere", n)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, tickets) {
		t.Errorf("tickets %v landed, want %v (Commit: %v, receipts: %v)", got, tickets, o.err, o.receipts)
	}
}

// wantVerdict checks the answer of Settle to a promise.
func wantVerdict(t *testing.T, s *smtp.Sink, p deliver.Promise, want deliver.Verdict) {
	t.Helper()
	if v, err := s.Settle(t.Context(), p.Token); v != want || err != nil {
		t.Errorf("Settle = %v, %v, want %v", v, err, want)
	}
}

// wantError checks the fault of an error, and that its text contains the words.
func wantError(t *testing.T, err error, fault deliver.Fault, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != fault {
		t.Errorf("%#v: fault is not %v", err, fault)
		return
	}
	for _, word := range words {
		if !strings.Contains(e.Error(), word) {
			t.Errorf("%q is not in %q", word, e.Error())
		}
	}
	if len(e.Error()) > 1000 {
		t.Errorf("an error of %d octets", len(e.Error()))
	}
}

// A refused message does not hold up the messages behind it.
func TestRefusedMessage(t *testing.T) {
	for _, test := range []struct {
		when, reply string
		fault       deliver.Fault
		words       []string
	}{
		{when: "RCPT", reply: "450 4.7.1 greylisted", fault: deliver.FaultTemporary, words: []string{"me@example.org", "450 4.7.1", `"greylisted"`}},
		{when: "RCPT", reply: "550 5.1.1 no such\tuser", fault: deliver.FaultMessage, words: []string{"me@example.org", "550 5.1.1", `"no such\tuser"`}},
		{when: "RCPT", reply: "550 " + strings.Repeat("x", 1500), fault: deliver.FaultMessage},
		{when: "MAIL", reply: "451 4.3.0 later", fault: deliver.FaultTemporary, words: []string{"MAIL: 451"}},
		{when: "MAIL", reply: "553 never", fault: deliver.FaultMessage, words: []string{"MAIL: 553"}},
		{when: "DATA", reply: "452 4.3.1 disk full", fault: deliver.FaultTemporary, words: []string{"DATA: 452"}},
		{when: "message", reply: "451 4.3.0 later", fault: deliver.FaultTemporary, words: []string{"message: 451"}},
		{when: "message", reply: "554-5.7.1 spam\r\n554 5.7.1 and more", fault: deliver.FaultMessage, words: []string{"554 5.7.1", `"spam\nand more"`}},
		{when: "message", reply: "552 5.3.4 too large", fault: deliver.FaultMessage, words: []string{"552 5.3.4"}},
	} {
		t.Run(test.when+" "+test.reply[:3], func(t *testing.T) {
			srv := &scripted{reply: replyOnce(map[string]string{test.when: test.reply})}
			srv.start(t)
			opts := options(t, srv.addr)
			opts.To = []string{"me@example.org"}
			s := newSink(t, opts)
			o := send(t, t.Context(), s, "", body(0), body(1), body(2))
			if o.err != nil {
				t.Fatalf("Commit: %v", o.err)
			}
			o.wantLanded(t, 1, 2)
			wantError(t, o.receipts[0].Err, test.fault, test.words...)
			srv.wantSessions(t, 1)
			wantVerdict(t, s, o.promises[0], deliver.Unknown)
			if test.when != "message" {
				srv.wantBodies(t, body(1), body(2))
			}
			again := send(t, t.Context(), s, "", body(0))
			again.wantLanded(t, 0)
		})
	}
}

// A message that only some recipients accepted is sent again to the others alone, by
// another process too.
func TestPartialSuccess(t *testing.T) {
	for _, test := range []struct {
		lmtp bool
		when string
	}{{when: "RCPT b@"}, {lmtp: true, when: "RCPT b@"}, {lmtp: true, when: "message b@"}} {
		for _, reply := range []string{"450 4.2.0 later", "452 4.2.2 full", "550 5.1.1 no"} {
			t.Run(fmt.Sprint(test, reply[:3]), func(t *testing.T) {
				srv := &scripted{lmtp: test.lmtp, reply: replyOnce(map[string]string{test.when: reply})}
				srv.start(t)
				opts := options(t, srv.addr)
				opts.LMTP = test.lmtp
				s := newSink(t, opts)
				o := send(t, t.Context(), s, "", body(0), body(1))
				o.wantLanded(t, 1)
				fault := deliver.FaultTemporary
				if reply[0] == '5' {
					fault = deliver.FaultMessage
				}
				wantError(t, o.receipts[0].Err, fault, reply[:3], "b@example.org", "1 of 2 recipients")

				s.Close()
				s = newSink(t, opts)
				wantVerdict(t, s, o.promises[0], deliver.Unknown)
				wantVerdict(t, s, o.promises[1], deliver.Landed)
				if err := s.Sweep(t.Context(), "work"); err != nil {
					t.Fatal(err)
				}
				before := len(srv.commands("RCPT"))
				again := send(t, t.Context(), s, "", body(0))
				again.wantLanded(t, 0)
				if sent := srv.commands("RCPT")[before:]; !slices.Equal(sent, []string{"RCPT TO:<b@example.org>"}) {
					t.Errorf("sent again to %q", sent)
				}
				wantVerdict(t, s, again.promises[0], deliver.Landed)
				// The same content under another unique-id is another message.
				before = len(srv.commands("RCPT"))
				send(t, t.Context(), s, "", body(1), body(0)).wantLanded(t, 0, 1)
				if sent := srv.commands("RCPT")[before:]; len(sent) != 4 {
					t.Errorf("another message: %q", sent)
				}
			})
		}
	}
}

// A partial success is remembered even if the connection is lost before every
// recipient has a reply.
func TestConnectionLostBetweenReplies(t *testing.T) {
	for _, reply := range []string{hangUp, "421 4.3.2 closing", "nonsense"} {
		srv := &scripted{lmtp: true, reply: replyOnce(map[string]string{"message b@": reply})}
		srv.start(t)
		opts := options(t, srv.addr)
		opts.LMTP = true
		s := newSink(t, opts)
		o := send(t, t.Context(), s, "", body(0), body(1))
		o.wantLanded(t, 1)
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary)
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
		want := []string{"RCPT TO:<b@example.org>"}
		if sent := srv.commands("RCPT"); !slices.Equal(sent[len(sent)-1:], want) || len(sent) != 5 {
			t.Errorf("after %q: %q", reply, sent)
		}
	}
}

// If a server ends the session after each message, with reply 421 or without a reply,
// the sink opens a new session each time.
func TestReconnect(t *testing.T) {
	for _, when := range []string{"MAIL", "RCPT", "DATA"} {
		for _, how := range []string{"421 4.7.0 enough", hangUp} {
			t.Run(when+" "+how, func(t *testing.T) {
				taken := make(map[int]int)
				srv := &scripted{}
				srv.reply = func(session int, verb, _ string) string {
					srv.mu.Lock()
					defer srv.mu.Unlock()
					if verb == "message" {
						taken[session]++
					}
					if verb == when && taken[session] == 1 {
						return how
					}
					return ""
				}
				srv.start(t)
				s := newSink(t, options(t, srv.addr))
				o := send(t, t.Context(), s, "", body(0), body(1), body(2))
				o.wantLanded(t, 0, 1, 2)
				srv.wantBodies(t, body(0), body(1), body(2))
				srv.wantSessions(t, 3)
			})
		}
	}
}

// A server that stays unavailable ends the batch. The messages that were not sent to it
// get no receipt.
func TestServerUnavailable(t *testing.T) {
	for _, how := range []string{"421 4.3.2 down", hangUp} {
		for _, when := range []string{"MAIL", "message"} {
			srv := &scripted{reply: func(_ int, verb, _ string) string {
				if verb == when {
					return how
				}
				return ""
			}}
			srv.start(t)
			o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0), body(1), body(2), body(3))
			o.wantLanded(t)
			wantError(t, o.err, deliver.FaultTemporary)
			if len(o.receipts) != 1 || o.receipts[0].Err == nil {
				t.Errorf("%s at %s: %d receipts, want that of the first message", how, when, len(o.receipts))
			}
		}
	}
	srv := &scripted{reply: func(_ int, verb, _ string) string { return map[string]string{"greeting": "421 busy"}[verb] }}
	srv.start(t)
	_, err := newSink(t, options(t, srv.addr)).Begin(t.Context())
	wantError(t, err, deliver.FaultTemporary, "421", `"busy"`)
}

// If the connection is lost over one message, the others are delivered all the same.
func TestLostMessage(t *testing.T) {
	// More than the system buffers, so that it cannot be sent to a server that
	// does not read.
	large := "Subject: 1\r\n\r\n" + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 15_000)
	for _, test := range []struct {
		when, how string
		timeout   time.Duration
		times     int // how often: a session that was in use before is replaced once
		message   string
	}{
		{when: "message", how: hangUp, times: 1, message: body(1)},
		{when: "message", how: "nonsense", times: 1, message: body(1)},
		{when: "message", how: stall, timeout: time.Second, times: 1, message: body(1)},
		{when: "body", how: hangUp, times: 2, message: large},
		{when: "body", how: stall, timeout: time.Second, times: 2, message: large},
	} {
		t.Run(test.when+" "+test.how, func(t *testing.T) {
			t.Parallel()
			transactions, lost := 0, 0
			srv := &scripted{}
			srv.reply = func(_ int, verb, _ string) string {
				srv.mu.Lock()
				defer srv.mu.Unlock()
				if verb == "body" {
					transactions++
				}
				if verb == test.when && transactions > 1 && lost < test.times {
					lost++
					return test.how
				}
				return ""
			}
			srv.start(t)
			opts := options(t, srv.addr)
			opts.Server.Timeout = test.timeout
			o := send(t, t.Context(), newSink(t, opts), "", body(0), test.message, body(2))
			if o.err != nil {
				t.Fatal(o.err)
			}
			o.wantLanded(t, 0, 2)
			wantError(t, o.receipts[1].Err, deliver.FaultTemporary)
			wantVerdict(t, newSink(t, opts), o.promises[1], deliver.Unknown)
		})
	}
}

// brokenFS is a file system on which reads beyond limit fail.
type brokenFS struct {
	durable.FS
	limit int64
}

type brokenFile struct {
	durable.File
	limit int64
}

func (f brokenFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	return brokenFile{file, f.limit}, err
}

func (f brokenFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.limit {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p[:min(len(p), int(f.limit-off))], off)
}

// A message that cannot be read from the spool completely is never submitted.
func TestBrokenSpool(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp}
		srv.start(t)
		opts := options(t, srv.addr)
		opts.LMTP = lmtp
		opts.Spool = spool.New(filepath.Join(t.TempDir(), "spool"), brokenFS{durable.OS, 100_000})
		s := newSink(t, opts)
		large := "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", 50_000)
		o := send(t, t.Context(), s, "", body(0), large, body(2))
		o.wantLanded(t, 0)
		wantError(t, o.err, deliver.FaultMachine, "read the spool")
		<-srv.ended
		srv.wantBodies(t, body(0))
		if n := len(srv.commands("DATA")); n != 2 {
			t.Errorf("DATA was sent %d times, want 2", n)
		}
	}
}

// Commit ends when its context is cancelled, and reports nothing about the message whose
// reply is missing.
func TestCommitCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := &scripted{reply: func(session int, verb, _ string) string {
		if session > 1 || verb != "message" {
			return ""
		}
		cancel() // the message has been sent, and its fate is not known
		return stall
	}}
	srv.start(t)
	s := newSink(t, options(t, srv.addr))
	o := send(t, ctx, s, "", body(0), body(1))
	if !errors.Is(o.err, context.Canceled) || len(o.receipts) > 0 {
		t.Errorf("Commit = %v, %d receipts", o.err, len(o.receipts))
	}
	send(t, t.Context(), s, "", body(1)).wantLanded(t, 0)
}

// One session carries many messages and batches. It ends with QUIT on Close, and after
// it was idle for Options.Idle.
func TestSessions(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	opts := options(t, srv.addr)
	s := newSink(t, opts)
	for range 3 {
		send(t, t.Context(), s, "", body(0), body(1)).wantLanded(t, 0, 1)
	}
	srv.wantSessions(t, 1)
	s.Close()
	<-srv.ended
	if len(srv.commands("QUIT")) != 1 {
		t.Error("Close did not say QUIT")
	}

	opts.Idle = time.Millisecond
	s = newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	<-srv.ended
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
}

// In a pool for one connection, a sink ends the idle session of another sink.
func TestSharedPool(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	opts := options(t, srv.addr)
	opts.Idle, opts.Pool = time.Hour, remote.NewPool(1)
	for n := range 3 {
		opts.Name = fmt.Sprint(n)
		if send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t, 0); n > 0 {
			<-srv.ended
		}
	}
	srv.wantSessions(t, 3)
}

// A new session replaces an idle one that the server has ended.
func TestIdleSessionGone(t *testing.T) {
	srv := &scripted{}
	srv.reply = func(_ int, verb, _ string) string {
		if verb == "message" {
			return "250 fine\r\n421 4.4.2 and bye"
		}
		return ""
	}
	srv.start(t)
	s := newSink(t, options(t, srv.addr))
	for range 3 {
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	}
}

// All of 2,000 recipients are named once. If one is refused, only that one is named again.
func TestManyRecipients(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp, reply: replyOnce(map[string]string{"RCPT user150@": "450 4.2.1 later"})}
		srv.start(t)
		opts := options(t, srv.addr)
		opts.LMTP, opts.To = lmtp, nil
		for i := range 2000 {
			opts.To = append(opts.To, fmt.Sprintf("user%d@example.org", i))
		}
		opts.To = append(opts.To, "user0@example.org") // again
		s := newSink(t, opts)
		o := send(t, t.Context(), s, "", body(0))
		o.wantLanded(t)
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary, "user150@")
		before := len(srv.commands("RCPT"))
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
		if n := len(srv.commands("RCPT")) - before; n != 1 || before != 2000 {
			t.Errorf("LMTP %v: %d recipients, then %d, want 2000 and 1", lmtp, before, n)
		}
	}
}

// If a server accepts only so many recipients in one transaction, the message is sent to
// the others in further transactions.
func TestTooManyRecipients(t *testing.T) {
	for _, reply := range []string{"452 4.5.3 too many", "452 too many", "552 5.5.3 too many"} {
		for _, lmtp := range []bool{false, true} {
			named := 0
			srv := &scripted{lmtp: lmtp, reply: func(_ int, verb, _ string) string {
				switch verb {
				case "MAIL":
					named = 0
				case "RCPT":
					if named++; named > 50 {
						return reply
					}
				}
				return ""
			}}
			srv.start(t)
			opts := options(t, srv.addr)
			opts.LMTP, opts.To = lmtp, nil
			for i := range 120 {
				opts.To = append(opts.To, fmt.Sprintf("user%d@example.org", i))
			}
			send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t, 0)
			srv.wantBodies(t, body(0), body(0), body(0))
			for _, to := range opts.To {
				if n := len(srv.commands("RCPT TO:<" + to)); n != 1 && (n != 2 || to != "user50@example.org" && to != "user100@example.org") {
					t.Errorf("%s was named %d times", to, n)
				}
			}
		}
	}
}

// A reply that does not end is an error.
func TestEndlessReply(t *testing.T) {
	srv := &scripted{}
	srv.reply = func(_ int, verb, _ string) string {
		if verb == "EHLO" {
			return strings.Repeat("250-x\r\n", 1<<20) + "250 x"
		}
		return ""
	}
	srv.start(t)
	_, err := newSink(t, options(t, srv.addr)).Begin(t.Context())
	wantError(t, err, deliver.FaultTemporary, "does not end")
}
