package smtp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
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
