package smtp_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/smtp"
)

// A server that has no room for any mail ends the batch and refuses no message. A reply
// about one sender or one mailbox, such as greylisting, refuses the message.
func TestNoRoom(t *testing.T) {
	for _, test := range []struct {
		when, reply string
		refused     bool
	}{
		{when: "MAIL", reply: "452 no room"},
		{when: "MAIL", reply: "452 4.3.1 no room"},
		{when: "RCPT", reply: "452 4.3.1 no room"},
		{when: "message", reply: "452 4.3.1 no room"},
		{when: "RCPT", reply: "450 4.3.2 come again"},
		{when: "RCPT", reply: "450 4.7.1 greylisted", refused: true},
		{when: "RCPT", reply: "451 greylisted", refused: true},
		{when: "RCPT", reply: "452 4.2.2 the mailbox is full", refused: true},
		{when: "message", reply: "451 4.3.0 later", refused: true},
	} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprint(test.when, " ", test.reply, n), func(t *testing.T) {
				srv := &scripted{reply: replyAlways(test.when, "", test.reply)}
				srv.start(t)
				opts := options(t, srv.addr)
				opts.To = []string{"me@example.org"}
				var wire []string
				for i := range n {
					wire = append(wire, body(i))
				}
				o := send(t, t.Context(), newSink(t, opts), "", wire...)
				if test.refused {
					if o.err != nil || len(o.receipts) != n {
						t.Errorf("Commit = %v with %d receipts", o.err, len(o.receipts))
					}
				} else if wantError(t, o.err, deliver.FaultTemporary, test.reply[:3]); len(o.receipts) > 0 {
					t.Errorf("receipts %v", o.receipts)
				} else {
					wantUntaken(t, o.err, true)
				}
			})
		}
	}
}

// If the server demands a login (530) for some recipients, mail for the others is
// delivered. If it demands one for every recipient, that is the operator's fault, and no
// message is refused.
func TestLoginForRecipient(t *testing.T) {
	for _, test := range []struct {
		first  string // the recipient of a message in a batch before, if any
		to     string // one recipient for each message; the server refuses x
		landed []int  // nil if Commit fails
	}{
		{to: "axb", landed: []int{0, 2}},
		{to: "xab", landed: []int{1, 2}},
		{to: "xx", landed: nil},
		{first: "a", to: "xx", landed: []int{}},
	} {
		t.Run(test.first+test.to, func(t *testing.T) {
			srv := &scripted{reply: replyAlways("RCPT", "x@", "530 5.7.0 log in first")}
			srv.start(t)
			opts := options(t, srv.addr)
			opts.To = nil
			s := newSink(t, opts)
			sendTo := func(to string) outcome {
				var mails []deliver.Mail
				var wire []string
				for i, who := range strings.Split(to, "") {
					mails = append(mails, deliver.Mail{Account: "work", UID: to + fmt.Sprint(i), Recipients: []string{who + "@example.org"}})
					wire = append(wire, body(i))
				}
				return sendMails(t, t.Context(), s, mails, wire)
			}
			if test.first != "" {
				sendTo(test.first).wantLanded(t, 0)
			}
			o := sendTo(test.to)
			o.wantLanded(t, test.landed...)
			if test.landed == nil {
				if wantError(t, o.err, deliver.FaultOperator, "530", "x@"); len(o.receipts) > 0 {
					t.Errorf("receipts %v", o.receipts)
				}
				wantUntaken(t, o.err, true)
				return
			}
			if o.err != nil || len(o.receipts) != len(test.to) {
				t.Errorf("Commit = %v with %d receipts", o.err, len(o.receipts))
			}
			for _, r := range o.receipts {
				if r.Err != nil {
					wantError(t, r.Err, deliver.FaultMessage, "530", "x@")
				}
			}
		})
	}
}

// A server that refuses the recipients of all messages with the same reply refuses all
// mail. That is the operator's fault, and no message is refused.
func TestRefusedAtAll(t *testing.T) {
	const (
		client  = "554 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied"
		helo    = "504 5.5.2 <client>: Helo command rejected: need fully-qualified hostname"
		unknown = "550 5.1.1 <a@example.org>: Recipient address rejected: User unknown"
		sender  = "554 5.7.1 <you@example.org>: Sender address rejected: Access denied"
	)
	for _, test := range []struct {
		name    string
		replies []string // to the recipients of each message; "" takes it
		options func(*smtp.Options)
		all     bool   // whether Commit fails because all mail is refused
		hint    string // of the error
	}{
		{name: "this machine", replies: []string{client, client, client}, all: true, hint: "ask the server's operator"},
		{name: "no relay", replies: []string{"550 relay not permitted", "550 relay not permitted"}, all: true, hint: "want a login first"},
		{name: "its name", replies: []string{helo, helo}, all: true, hint: "set hello"},
		{name: "the recipients", replies: []string{unknown, unknown}, all: true, hint: "recipients in to"},
		{name: "the sender of all, perhaps", replies: []string{client, client}},
		{name: "one message", replies: []string{client}},
		{name: "one message, to somebody unknown", replies: []string{unknown}, hint: "recipients in to"},
		{name: "one message, for the name", replies: []string{helo}, hint: "set hello"},
		{name: "the last is taken", replies: []string{client, client, ""}},
		{name: "the first is taken", replies: []string{"", client, client}},
		{name: "in other words", replies: []string{client, "554 5.7.1 spam"}},
		{name: "for now", replies: []string{"450 4.7.1 later", "450 4.7.1 later"}},
		{name: "the sender", replies: []string{sender, sender}},
		{name: "the sender, by its code", replies: []string{"553 5.1.8 no such domain", "553 5.1.8 no such domain"}},
		{name: "the sender of all", replies: []string{sender, sender}, options: func(o *smtp.Options) { o.Sender = "you@example.org" }, all: true, hint: "ask the server"},
		{name: "recipients of their own", replies: []string{client, client}, options: func(o *smtp.Options) { o.To = nil }},
		{name: "recipients of their own, for the name", replies: []string{helo, helo}, options: func(o *smtp.Options) { o.To = nil }, all: true, hint: "set hello"},
	} {
		for _, lmtp := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, " ", lmtp), func(t *testing.T) {
				message := -1
				srv := &scripted{lmtp: lmtp}
				srv.reply = func(_ int, verb, _ string) string {
					switch verb {
					case "MAIL":
						message++
					case "RCPT":
						return test.replies[message]
					}
					return ""
				}
				srv.start(t)
				opts := options(t, srv.addr)
				opts.LMTP = lmtp
				if test.options != nil {
					test.options(&opts)
				}
				var mails []deliver.Mail
				var wire []string
				for n := range test.replies {
					sender := "you@example.org"
					if !strings.HasPrefix(test.name, "the sender") {
						sender = fmt.Sprintf("you%d@example.org", n)
					}
					mails = append(mails, deliver.Mail{
						Account: "work", UID: fmt.Sprint(n), Sender: sender, Recipients: []string{"a@example.org"},
					})
					wire = append(wire, body(n))
				}
				o := sendMails(t, t.Context(), newSink(t, opts), mails, wire)
				if test.all {
					wantError(t, o.err, deliver.FaultOperator, "RCPT: ")
					if len(o.receipts) > 0 {
						t.Errorf("receipts %v", o.receipts)
					}
					wantHint(t, o.err, test.hint)
					wantBlameless(t, o.err, true)
					return
				}
				if o.err != nil || len(o.receipts) != len(test.replies) {
					t.Errorf("Commit = %v with %d receipts", o.err, len(o.receipts))
				}
				for n, reply := range test.replies {
					switch err := o.receipts[n].Err; {
					case reply == "" && err != nil:
						t.Errorf("message %d: %v", n, err)
					case reply != "":
						fault := deliver.FaultMessage
						if reply[0] == '4' {
							fault = deliver.FaultTemporary
						}
						wantError(t, err, fault, "RCPT: "+reply[:3])
						wantHint(t, err, test.hint)
					}
				}
			})
		}
	}
}

// wantHint checks that the hint of an error contains the words. If words is empty, the
// error must have no hint.
func wantHint(t *testing.T, err error, words string) {
	t.Helper()
	e, _ := errors.AsType[*deliver.Error](err)
	if e == nil || !strings.Contains(e.Hint, words) || words == "" && e.Hint != "" {
		t.Errorf("%#v: want hint %q", err, words)
	}
}

// If the connection is lost after refusals, the server might have refused all mail.
// Therefore no message is reported as refused, and all are tried again.
func TestRefusedThenLost(t *testing.T) {
	srv := &scripted{}
	srv.reply = func(session int, verb, _ string) string {
		switch {
		case session > 1:
			return hangUp
		case verb != "RCPT":
			return ""
		case len(srv.commands("MAIL")) <= 2:
			return "554 5.7.1 no"
		default:
			return hangUp
		}
	}
	srv.start(t)
	o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0), body(1), body(2), body(3))
	wantError(t, o.err, deliver.FaultTemporary)
	if len(o.receipts) != 0 {
		t.Errorf("receipts %v", o.receipts)
	}
	wantUntaken(t, o.err, false)
}

// wantUntaken checks deliver.Error.Untaken: whether the server has none of the messages
// that were not reported.
func wantUntaken(t *testing.T, err error, want bool) {
	t.Helper()
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Untaken != want {
		t.Errorf("%v: untaken is %v", err, !want)
	}
}

// A server may refuse the name of the client already at EHLO.
func TestHelloRefused(t *testing.T) {
	srv := &scripted{reply: replyAlways("EHLO", "", "501 5.5.2 <client>: Helo command rejected: Invalid name")}
	srv.start(t)
	_, err := newSink(t, options(t, srv.addr)).Begin(t.Context())
	wantError(t, err, deliver.FaultOperator, "EHLO: 501")
	wantHint(t, err, "set hello")
}

// wantBlameless checks deliver.Error.Blameless: whether the error cannot have been caused
// by a message.
func wantBlameless(t *testing.T, err error, want bool) {
	t.Helper()
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Blameless != want {
		t.Errorf("%v: blameless is %v", err, !want)
	}
}

// If the server accepts no more connections, no message is to blame, even in the middle of
// a batch. If the connection was lost while a message was sent, that message may be to
// blame.
func TestBlameless(t *testing.T) {
	for _, test := range []struct {
		lost      string // the server hangs up at this verb
		closed    bool   // whether it rejects the connections after the first
		receipts  int
		blameless bool
	}{
		{lost: "MAIL", closed: true, receipts: 0, blameless: true},
		{lost: "MAIL", closed: false, receipts: 1, blameless: false},
		{lost: "body", closed: true, receipts: 1, blameless: false},
	} {
		srv := &scripted{reply: func(n int, verb, _ string) string {
			switch {
			case verb == test.lost:
				return hangUp
			case n > 1 && test.closed && verb == "EHLO":
				return "421 busy"
			}
			return ""
		}}
		srv.start(t)
		o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "you@example.org", body(0), body(1), body(2))
		if len(o.receipts) != test.receipts {
			t.Errorf("%+v: receipts %v", test, o.receipts)
		}
		wantBlameless(t, o.err, test.blameless)
	}
}
