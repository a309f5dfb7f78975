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

// options are those of a sink for a server in the clear.
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

// outcome is what became of a batch.
type outcome struct {
	promises []deliver.Promise
	receipts map[int]deliver.Receipt // by ticket
	err      error                   // of Commit
}

// send delivers messages in a batch, with the UIDs "0", "1" and so on.
func send(t *testing.T, ctx context.Context, s *smtp.Sink, sender string, wire ...string) outcome {
	t.Helper()
	var mails []deliver.Mail
	for i := range wire {
		mails = append(mails, deliver.Mail{Account: "work", UID: fmt.Sprint(i), Sender: sender})
	}
	return sendMails(t, ctx, s, mails, wire)
}

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

// wantError checks an error's fault and words.
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

// What is refused does not hold up what comes after it.
func TestRefusedMessage(t *testing.T) {
	for _, test := range []struct {
		when, reply string
		fault       deliver.Fault
		words       []string
	}{
		{"RCPT", "450 4.7.1 greylisted", deliver.FaultTemporary, []string{"me@example.org", "450 4.7.1", `"greylisted"`}},
		{"RCPT", "550 5.1.1 no such\tuser", deliver.FaultMessage, []string{"me@example.org", "550 5.1.1", `"no such\tuser"`}},
		{"RCPT", "550 " + strings.Repeat("x", 1500), deliver.FaultMessage, nil},
		{"MAIL", "451 4.3.0 later", deliver.FaultTemporary, []string{"MAIL: 451"}},
		{"MAIL", "553 never", deliver.FaultMessage, []string{"MAIL: 553"}},
		{"DATA", "452 4.3.1 disk full", deliver.FaultTemporary, []string{"DATA: 452"}},
		{"message", "451 4.3.0 later", deliver.FaultTemporary, []string{"message: 451"}},
		{"message", "554-5.7.1 spam\r\n554 5.7.1 and more", deliver.FaultMessage, []string{"554 5.7.1", `"spam\nand more"`}},
		{"message", "552 5.3.4 too large", deliver.FaultMessage, []string{"552 5.3.4"}},
	} {
		t.Run(test.when+" "+test.reply[:3], func(t *testing.T) {
			srv := &scripted{reply: on(map[string]string{test.when: test.reply})}
			script(t, srv)
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
			if v, err := s.Settle(t.Context(), o.promises[0].Token); v != deliver.Unknown || err != nil {
				t.Errorf("Settle of what was refused: %v, %v", v, err)
			}
			if test.when != "message" {
				srv.wantBodies(t, body(1), body(2))
			}
			again := send(t, t.Context(), s, "", body(0))
			again.wantLanded(t, 0)
		})
	}
}

// Those who do not have a message yet, and only they, are sent it again, by
// another process too.
func TestPartialSuccess(t *testing.T) {
	for _, test := range []struct {
		lmtp bool
		when string
	}{{false, "RCPT b@"}, {true, "RCPT b@"}, {true, "message b@"}} {
		for _, reply := range []string{"450 4.2.0 later", "452 4.2.2 full", "550 5.1.1 no"} {
			t.Run(fmt.Sprint(test, reply[:3]), func(t *testing.T) {
				srv := &scripted{lmtp: test.lmtp, reply: on(map[string]string{test.when: reply})}
				script(t, srv)
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
				if v, err := s.Settle(t.Context(), o.promises[0].Token); v != deliver.Unknown || err != nil {
					t.Errorf("Settle: %v, %v", v, err)
				}
				if v, err := s.Settle(t.Context(), o.promises[1].Token); v != deliver.Landed || err != nil {
					t.Errorf("Settle: %v, %v", v, err)
				}
				if err := s.Sweep(t.Context(), "work"); err != nil {
					t.Fatal(err)
				}
				before := len(srv.said("RCPT"))
				again := send(t, t.Context(), s, "", body(0))
				again.wantLanded(t, 0)
				if said := srv.said("RCPT")[before:]; !slices.Equal(said, []string{"RCPT TO:<b@example.org>"}) {
					t.Errorf("the second time: %q", said)
				}
				if v, err := s.Settle(t.Context(), again.promises[0].Token); v != deliver.Landed || err != nil {
					t.Errorf("Settle: %v, %v", v, err)
				}
				// The same bytes under another name are another message.
				before = len(srv.said("RCPT"))
				send(t, t.Context(), s, "", body(1), body(0)).wantLanded(t, 0, 1)
				if said := srv.said("RCPT")[before:]; len(said) != 4 {
					t.Errorf("another message: %q", said)
				}
			})
		}
	}
}

// A partial success is remembered even if the connection is lost before every
// recipient has a reply.
func TestPartialLoss(t *testing.T) {
	for _, reply := range []string{hangUp, "421 4.3.2 closing", "nonsense"} {
		srv := &scripted{lmtp: true, reply: on(map[string]string{"message b@": reply})}
		script(t, srv)
		opts := options(t, srv.addr)
		opts.LMTP = true
		s := newSink(t, opts)
		o := send(t, t.Context(), s, "", body(0), body(1))
		o.wantLanded(t, 1)
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary)
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
		want := []string{"RCPT TO:<b@example.org>"}
		if said := srv.said("RCPT"); !slices.Equal(said[len(said)-1:], want) || len(said) != 5 {
			t.Errorf("after %q: %q", reply, said)
		}
	}
}

// A server that ends the session after each message, with 421 or without a
// word, gets a new session each time.
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
				script(t, srv)
				s := newSink(t, options(t, srv.addr))
				o := send(t, t.Context(), s, "", body(0), body(1), body(2))
				o.wantLanded(t, 0, 1, 2)
				srv.wantBodies(t, body(0), body(1), body(2))
				srv.wantSessions(t, 3)
			})
		}
	}
}

// A server that is in trouble for long ends the batch, without a word about
// the messages that it was not shown.
func TestUnavailable(t *testing.T) {
	for _, how := range []string{"421 4.3.2 down", hangUp} {
		for _, when := range []string{"MAIL", "message"} {
			srv := &scripted{reply: func(_ int, verb, _ string) string {
				if verb == when {
					return how
				}
				return ""
			}}
			script(t, srv)
			o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0), body(1), body(2), body(3))
			o.wantLanded(t)
			wantError(t, o.err, deliver.FaultTemporary)
			if len(o.receipts) != 1 || o.receipts[0].Err == nil {
				t.Errorf("%s at %s: %d receipts, want that of the first message", how, when, len(o.receipts))
			}
		}
	}
	srv := &scripted{reply: func(_ int, verb, _ string) string { return map[string]string{"greeting": "421 busy"}[verb] }}
	script(t, srv)
	_, err := newSink(t, options(t, srv.addr)).Begin(t.Context())
	wantError(t, err, deliver.FaultTemporary, "421", `"busy"`)
}

// A message over which the connection is lost does not stop the others.
func TestLostMessage(t *testing.T) {
	// More than the system buffers, so that it cannot be sent to a server that
	// does not read.
	large := "Subject: 1\r\n\r\n" + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 15_000)
	for _, test := range []struct {
		when, how string
		timeout   time.Duration
		times     int // a session that was in use before is replaced once
		message   string
	}{
		{"message", hangUp, 0, 1, body(1)},
		{"message", "nonsense", 0, 1, body(1)},
		{"message", stall, time.Second, 1, body(1)},
		{"body", hangUp, 0, 2, large},
		{"body", stall, time.Second, 2, large},
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
			script(t, srv)
			opts := options(t, srv.addr)
			opts.Server.Timeout = test.timeout
			o := send(t, t.Context(), newSink(t, opts), "", body(0), test.message, body(2))
			if o.err != nil {
				t.Fatal(o.err)
			}
			o.wantLanded(t, 0, 2)
			wantError(t, o.receipts[1].Err, deliver.FaultTemporary)
			if v, err := newSink(t, opts).Settle(t.Context(), o.promises[1].Token); v != deliver.Unknown || err != nil {
				t.Errorf("Settle: %v, %v", v, err)
			}
		})
	}
}

// brokenFS cannot read files beyond an offset.
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

// A message that cannot be read to its end is never submitted.
func TestBrokenSpool(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp}
		script(t, srv)
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
		if n := len(srv.said("DATA")); n != 2 {
			t.Errorf("DATA was said %d times, want 2", n)
		}
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := &scripted{reply: func(session int, verb, _ string) string {
		if session > 1 || verb != "message" {
			return ""
		}
		cancel() // the message has been sent, and its fate is not known
		return stall
	}}
	script(t, srv)
	s := newSink(t, options(t, srv.addr))
	o := send(t, ctx, s, "", body(0), body(1))
	if !errors.Is(o.err, context.Canceled) || len(o.receipts) > 0 {
		t.Errorf("Commit = %v, %d receipts", o.err, len(o.receipts))
	}
	send(t, t.Context(), s, "", body(1)).wantLanded(t, 0)
}

// One session serves many messages and batches, and ends when it is idle.
func TestSessions(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
	opts := options(t, srv.addr)
	s := newSink(t, opts)
	for range 3 {
		send(t, t.Context(), s, "", body(0), body(1)).wantLanded(t, 0, 1)
	}
	srv.wantSessions(t, 1)
	s.Close()
	<-srv.ended
	if len(srv.said("QUIT")) != 1 {
		t.Error("Close did not say QUIT")
	}

	opts.Idle = time.Millisecond
	s = newSink(t, opts)
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	<-srv.ended
	send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
}

// Sinks that share a pool end each other's idle sessions.
func TestSharedPool(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
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

// An idle session that the server has ended is replaced.
func TestIdleSessionGone(t *testing.T) {
	srv := &scripted{}
	srv.reply = func(_ int, verb, _ string) string {
		if verb == "message" {
			return "250 fine\r\n421 4.4.2 and bye"
		}
		return ""
	}
	script(t, srv)
	s := newSink(t, options(t, srv.addr))
	for range 3 {
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
	}
}

func TestManyRecipients(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp, reply: on(map[string]string{"RCPT user150@": "450 4.2.1 later"})}
		script(t, srv)
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
		before := len(srv.said("RCPT"))
		send(t, t.Context(), s, "", body(0)).wantLanded(t, 0)
		if n := len(srv.said("RCPT")) - before; n != 1 || before != 2000 {
			t.Errorf("LMTP %v: %d recipients, then %d, want 2000 and 1", lmtp, before, n)
		}
	}
}

// A server that takes fewer recipients at once is sent the message for the
// others in further transactions.
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
			script(t, srv)
			opts := options(t, srv.addr)
			opts.LMTP, opts.To = lmtp, nil
			for i := range 120 {
				opts.To = append(opts.To, fmt.Sprintf("user%d@example.org", i))
			}
			send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t, 0)
			srv.wantBodies(t, body(0), body(0), body(0))
			for _, to := range opts.To {
				if n := len(srv.said("RCPT TO:<" + to)); n != 1 && (n != 2 || to != "user50@example.org" && to != "user100@example.org") {
					t.Errorf("%s was named %d times", to, n)
				}
			}
		}
	}
}

func TestEndlessReply(t *testing.T) {
	srv := &scripted{}
	srv.reply = func(_ int, verb, _ string) string {
		if verb == "EHLO" {
			return strings.Repeat("250-x\r\n", 1<<20) + "250 x"
		}
		return ""
	}
	script(t, srv)
	_, err := newSink(t, options(t, srv.addr)).Begin(t.Context())
	wantError(t, err, deliver.FaultTemporary, "does not end")
}
