package smtp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// Without recipients of its own, a sink sends each message to those whom it
// was routed for, and only the missing ones when it comes again.
func TestRecipientsOfTheMessage(t *testing.T) {
	later := true
	srv := &scripted{lmtp: true}
	srv.reply = func(_ int, verb, line string) string {
		if later && verb == "RCPT" && strings.Contains(line, "c@") {
			return "450 later"
		}
		return ""
	}
	script(t, srv)
	disk := durabletest.New()
	opts := inMemory(t, srv.addr, disk)
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
		if v, err := s.Settle(t.Context(), first.promises[n].Token); v != want || err != nil {
			t.Errorf("Settle %d = %v, %v, want %v", n, v, err, want)
		}
	}

	later = false
	var again outcome
	srv.onlyTo(t, "c@", func() { again = sendMails(t, t.Context(), s, mails[1:], []string{body(1)}) })
	again.wantLanded(t, 0)
	if v, err := s.Settle(t.Context(), again.promises[0].Token); v != deliver.Landed || err != nil {
		t.Errorf("Settle = %v, %v", v, err)
	}
	if err := s.Sweep(t.Context(), "work"); err != nil || strings.Contains(disk.Tree(), "example.org") {
		t.Errorf("%v: the ledger is not emptied:\n%s", err, disk.Tree())
	}
}

// A message that names nobody, or nobody who can be named to a server, is
// refused, and the next one is not.
func TestNoRecipients(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
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

// However many recipients a message has, its promise stays short.
func TestPromiseOfManyRecipients(t *testing.T) {
	srv := &scripted{}
	script(t, srv)
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
	if v, err := s.Settle(t.Context(), o.promises[0].Token); v != deliver.Unknown || err != nil {
		t.Errorf("Settle = %v, %v", v, err)
	}
}
