package smtp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// A sink without Options.To sends each message to Mail.Recipients, and at the second try
// only to those that do not have it yet.
func TestRecipientsOfTheMessage(t *testing.T) {
	later := true
	srv := &scripted{lmtp: true}
	srv.reply = func(_ int, verb, line string) string {
		if later && verb == "RCPT" && strings.Contains(line, "c@") {
			return "450 later"
		}
		return ""
	}
	srv.start(t)
	disk := durabletest.New()
	opts := optionsOn(t, srv.addr, disk)
	opts.LMTP, opts.To = true, nil
	s := newSink(t, opts)
	mails := []deliver.Mail{
		{Account: "work", UID: "0", Recipients: []string{"a", "b@example.org"}},
		{Account: "work", UID: "1", Recipients: []string{"a", "c@example.org"}},
	}
	first := sendMails(t, t.Context(), s, mails, []string{body(0), body(1)})
	first.wantLanded(t, 0)
	wantError(t, first.receipts[1].Err, deliver.FaultTemporary, "450", "c@example.org", "1 of 2 recipients")
	if err := s.Sweep(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	for n, want := range []deliver.Verdict{deliver.Landed, deliver.Unknown} {
		wantVerdict(t, s, first.promises[n], want)
	}

	later = false
	var again outcome
	srv.wantSentOnlyTo(t, "c@", func() { again = sendMails(t, t.Context(), s, mails[1:], []string{body(1)}) })
	again.wantLanded(t, 0)
	wantVerdict(t, s, again.promises[0], deliver.Landed)
	if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), "example.org") {
		t.Errorf("%v: the ledger is not emptied:\n%s", err, disk.Tree())
	}
}

// A message without recipients, or with one that is no valid address, is refused. The next
// message is staged all the same.
func TestNoRecipients(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	opts := options(t, srv.addr)
	opts.To = nil
	b, err := newSink(t, opts).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for _, to := range [][]string{nil, {"me"}, {"a@b", "a b@c"}, {"a@b>\r\nRCPT TO:<c@d"}} {
		_, err := b.Stage(t.Context(), deliver.Mail{Recipients: to}, strings.NewReader(body(0)))
		wantError(t, err, deliver.FaultMessage)
	}
	if n, err := b.Stage(t.Context(), deliver.Mail{Recipients: []string{"a@b"}}, strings.NewReader(body(0))); n != 0 || err != nil {
		t.Errorf("ticket %d, %v", n, err)
	}
}

// The token of a promise stays short, even for 2,000 recipients. Settle then answers
// Unknown.
func TestPromiseOfManyRecipients(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	opts := options(t, srv.addr)
	opts.To = nil
	s := newSink(t, opts)
	mail := deliver.Mail{Account: "work"}
	for n := range 2000 {
		mail.Recipients = append(mail.Recipients, fmt.Sprintf("somebody-%d@example.org", n))
	}
	o := sendMails(t, t.Context(), s, []deliver.Mail{mail}, []string{body(0)})
	o.wantLanded(t, 0)
	if n := len(o.promises[0].Token); n > 4<<10 {
		t.Errorf("a token of %d octets", n)
	}
	wantVerdict(t, s, o.promises[0], deliver.Unknown)
}
