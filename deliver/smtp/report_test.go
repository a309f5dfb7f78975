package smtp_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/smtp"
)

// A server without room takes no mail, and refuses none. One that defers mail
// from whom it does not know refuses each message.
func TestNoRoom(t *testing.T) {
	for _, test := range []struct {
		when, reply string
		refused     bool
	}{
		{"MAIL", "452 no room", false},
		{"MAIL", "452 4.3.1 no room", false},
		{"RCPT", "452 4.3.1 no room", false},
		{"message", "452 4.3.1 no room", false},
		{"RCPT", "450 4.3.2 come again", false},
		{"RCPT", "450 4.7.1 greylisted", true},
		{"RCPT", "451 greylisted", true},
		{"RCPT", "452 4.2.2 the mailbox is full", true},
		{"message", "451 4.3.0 later", true},
	} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprint(test.when, " ", test.reply, n), func(t *testing.T) {
				srv := &scripted{reply: func(_ int, verb, _ string) string {
					if verb == test.when {
						return test.reply
					}
					return ""
				}}
				script(t, srv)
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

// A server that wants a login for some recipients does not stop what is for
// others. If it wants one for whomever it is told, a person is called, and no
// message is refused.
func TestLoginForRecipient(t *testing.T) {
	for _, test := range []struct {
		first  string // what a message before these is for
		to     string // whom these are for, each for one, of whom x is refused
		landed []int
	}{
		{"", "axb", []int{0, 2}},
		{"", "xab", []int{1, 2}},
		{"", "xx", nil},
		{"a", "xx", []int{}},
	} {
		t.Run(test.first+test.to, func(t *testing.T) {
			srv := &scripted{reply: func(_ int, verb, line string) string {
				if verb == "RCPT" && strings.Contains(line, "x@") {
					return "530 5.7.0 log in first"
				}
				return ""
			}}
			script(t, srv)
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

// A server that refuses all recipients in the same words refuses all mail: a
// person is called, and no message is refused.
func TestRefusedAtAll(t *testing.T) {
	const (
		knocked  = "554 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied"
		greeting = "504 5.5.2 <client>: Helo command rejected: need fully-qualified hostname"
		unknown  = "550 5.1.1 <a@example.org>: Recipient address rejected: User unknown"
		stranger = "554 5.7.1 <you@example.org>: Sender address rejected: Access denied"
	)
	for _, test := range []struct {
		name    string
		replies []string // to the recipients of each message; "" takes it
		options func(*smtp.Options)
		all     bool
		hint    string // of the first refusal
	}{
		{"this machine", []string{knocked, knocked, knocked}, nil, true, "ask the server's operator"},
		{"no relay", []string{"550 relay not permitted", "550 relay not permitted"}, nil, true, "want a login first"},
		{"its name", []string{greeting, greeting}, nil, true, "set hello"},
		{"the recipients", []string{unknown, unknown}, nil, true, "recipients in to"},
		{"the sender of all, perhaps", []string{knocked, knocked}, nil, false, ""},
		{"one message", []string{knocked}, nil, false, ""},
		{"one message, to somebody unknown", []string{unknown}, nil, false, "recipients in to"},
		{"one message, for the name", []string{greeting}, nil, false, "set hello"},
		{"the last is taken", []string{knocked, knocked, ""}, nil, false, ""},
		{"the first is taken", []string{"", knocked, knocked}, nil, false, ""},
		{"in other words", []string{knocked, "554 5.7.1 spam"}, nil, false, ""},
		{"for now", []string{"450 4.7.1 later", "450 4.7.1 later"}, nil, false, ""},
		{"the sender", []string{stranger, stranger}, nil, false, ""},
		{"the sender, by its code", []string{"553 5.1.8 no such domain", "553 5.1.8 no such domain"}, nil, false, ""},
		{"the sender of all", []string{stranger, stranger}, func(o *smtp.Options) { o.Sender = "you@example.org" }, true, "ask the server"},
		{"recipients of their own", []string{knocked, knocked}, func(o *smtp.Options) { o.To = nil }, false, ""},
		{"recipients of their own, for the name", []string{greeting, greeting}, func(o *smtp.Options) { o.To = nil }, true, "set hello"},
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
				script(t, srv)
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

// wantHint checks an error's hint; without words there must be none.
func wantHint(t *testing.T, err error, words string) {
	t.Helper()
	e, _ := errors.AsType[*deliver.Error](err)
	if e == nil || !strings.Contains(e.Hint, words) || words == "" && e.Hint != "" {
		t.Errorf("%#v: want hint %q", err, words)
	}
}

// What was refused before the connection was lost may have been refused to all: it
// is tried again.
func TestRefusedThenLost(t *testing.T) {
	srv := &scripted{}
	srv.reply = func(session int, verb, _ string) string {
		switch {
		case session > 1:
			return hangUp
		case verb != "RCPT":
			return ""
		case len(srv.said("MAIL")) <= 2:
			return "554 5.7.1 no"
		default:
			return hangUp
		}
	}
	script(t, srv)
	o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0), body(1), body(2), body(3))
	wantError(t, o.err, deliver.FaultTemporary)
	if len(o.receipts) != 0 { // nobody knows whether it would have refused them all
		t.Errorf("receipts %v", o.receipts)
	}
	wantUntaken(t, o.err, false)
}

// wantUntaken fails the test unless the error says whether the server has none of what
// was not reported.
func wantUntaken(t *testing.T, err error, want bool) {
	t.Helper()
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Untaken != want {
		t.Errorf("%v: untaken is %v", err, !want)
	}
}

// The name that we greet with may be refused at once, too.
func TestHelloRefused(t *testing.T) {
	srv := &scripted{reply: always("EHLO", "", "501 5.5.2 <client>: Helo command rejected: Invalid name")}
	script(t, srv)
	_, err := newSink(t, options(t, srv.addr)).Begin(t.Context())
	wantError(t, err, deliver.FaultOperator, "EHLO: 501")
	wantHint(t, err, "set hello")
}

// wantBlameless fails the test unless the error says whether a message may be to
// blame for it.
func wantBlameless(t *testing.T, err error, want bool) {
	t.Helper()
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Blameless != want {
		t.Errorf("%v: blameless is %v", err, !want)
	}
}

// A server that lets nobody in any more blames no message, even in the middle of a
// batch: only a connection that is lost over one may, and it may be why the server
// is not back yet.
func TestBlameless(t *testing.T) {
	for _, test := range []struct {
		lost      string // the verb over which connections are lost
		closed    bool   // and then there are none
		receipts  int
		blameless bool
	}{
		{"MAIL", true, 0, true},
		{"MAIL", false, 1, false},
		{"body", true, 1, false},
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
		script(t, srv)
		o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "you@example.org", body(0), body(1), body(2))
		if len(o.receipts) != test.receipts {
			t.Errorf("%+v: receipts %v", test, o.receipts)
		}
		wantBlameless(t, o.err, test.blameless)
	}
}
