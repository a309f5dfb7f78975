package smtp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// A server may refuse a message and then hang up, or reply 421 to every later command. The
// refusal counts, and each of the messages gets its own.
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
					srv.start(t)
					opts := options(t, srv.addr)
					opts.LMTP, opts.To = lmtp, to
					o := send(t, t.Context(), newSink(t, opts), "", body(0), body(1), body(2))
					o.wantLanded(t)
					if o.err != nil || len(o.receipts) != 3 {
						t.Errorf("%s of %d: Commit = %v with %d receipts", when, len(to), o.err, len(o.receipts))
					}
					for _, r := range o.receipts {
						if when == "RCPT" && len(to) > 1 { // the second recipient got no reply
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

// If a session is lost between two recipients, a second session decides about those that
// got no reply.
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
	srv.start(t)
	o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0))
	o.wantLanded(t)
	wantError(t, o.receipts[0].Err, deliver.FaultMessage, "a@example.org", "550 5.1.1", "1 of 2 recipients")
	srv.wantBodies(t, body(0))
}

// An address beyond ASCII cannot be sent to a server without SMTPUTF8 (RFC 6531). The
// other recipients get the message all the same.
func TestRecipientBeyondASCII(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp}
		srv.start(t)
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
		if sent := srv.commands("RCPT"); !slices.Equal(sent, []string{"RCPT TO:<a@example.org>", "RCPT TO:<a@example.org>"}) {
			t.Errorf("the client sent %q", sent)
		}
		if sent := srv.commands("MAIL"); strings.Contains(strings.Join(sent, " "), "SMTPUTF8") {
			t.Errorf("the client sent %q", sent)
		}
	}
}
