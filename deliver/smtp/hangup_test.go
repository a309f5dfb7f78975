package smtp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// A server that hangs up on whom it refuses has refused, whatever is said to it
// after that, and however many messages it does so to.
func TestRefusedAndHungUp(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		for _, when := range []string{"MAIL", "RCPT", "DATA"} {
			for _, to := range [][]string{{"a@example.org"}, {"a@example.org", "b@example.org"}} {
				for _, bye := range []string{hangUp, "421 4.7.0 bye"} {
					refused := make(map[int]bool) // by session
					srv := &scripted{lmtp: lmtp}
					srv.reply = func(session int, verb, line string) string {
						srv.mu.Lock()
						defer srv.mu.Unlock()
						switch {
						case refused[session]:
							return bye
						case verb == when:
							refused[session] = true
							return fmt.Sprintf("554 5.7.1 blocked %d", session)
						default:
							return ""
						}
					}
					script(t, srv)
					opts := options(t, srv.addr)
					opts.LMTP, opts.To = lmtp, to
					o := send(t, t.Context(), newSink(t, opts), "", body(0), body(1), body(2))
					o.wantLanded(t)
					if o.err != nil || len(o.receipts) != 3 {
						t.Errorf("%s of %d: Commit = %v with %d receipts", when, len(to), o.err, len(o.receipts))
					}
					for _, r := range o.receipts {
						if when == "RCPT" && len(to) > 1 { // the other one was not answered
							wantError(t, r.Err, deliver.FaultTemporary, "to b@example.org (1 more refusal)")
							continue
						}
						wantError(t, r.Err, deliver.FaultMessage, when+": 554 5.7.1", "blocked")
					}
				}
			}
		}
	}
}

// If a session that was in use before ends between recipients, another says
// what becomes of the others.
func TestHungUpBetweenRecipients(t *testing.T) {
	srv := &scripted{reply: func(session int, verb, line string) string {
		switch {
		case verb == "RCPT" && strings.Contains(line, "a@"):
			return "550 5.1.1 no such user"
		case verb == "RCPT" && session == 1:
			return hangUp
		default:
			return ""
		}
	}}
	script(t, srv)
	o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0))
	o.wantLanded(t)
	wantError(t, o.receipts[0].Err, deliver.FaultMessage, "a@example.org", "550 5.1.1", "1 of 2 recipients")
	srv.wantBodies(t, body(0))
}

// A server without SMTPUTF8 cannot be told of an address with other letters.
// The other recipients have the message none the less.
func TestRecipientBeyondASCII(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp}
		script(t, srv)
		opts := options(t, srv.addr)
		opts.LMTP, opts.To = lmtp, nil
		mails := []deliver.Mail{
			{Account: "work", UID: "0", Recipients: []string{"jürgen@example.org", "a@example.org"}},
			{Account: "work", UID: "1", Recipients: []string{"jürgen@example.org"}},
			{Account: "work", UID: "2", Recipients: []string{"a@example.org"}},
		}
		o := sendMails(t, t.Context(), newSink(t, opts), mails, []string{body(0), body(1), body(2)})
		o.wantLanded(t, 2)
		wantError(t, o.receipts[0].Err, deliver.FaultMessage, "jürgen@", "the recipient has letters", "1 of 2 recipients")
		wantError(t, o.receipts[1].Err, deliver.FaultMessage, "jürgen@", "the recipient has letters")
		srv.wantBodies(t, body(0), body(2))
		if said := srv.said("RCPT"); !slices.Equal(said, []string{"RCPT TO:<a@example.org>", "RCPT TO:<a@example.org>"}) {
			t.Errorf("said %q", said)
		}
		if said := srv.said("MAIL"); strings.Contains(strings.Join(said, " "), "SMTPUTF8") {
			t.Errorf("said %q", said)
		}
	}
}
