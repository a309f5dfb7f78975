package smtp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/smtp"
)

// A message above the server's SIZE is refused without being sent. For the others, MAIL
// declares the size.
func TestSize(t *testing.T) {
	srv := &scripted{extensions: []string{"SIZE 1000", "8BITMIME"}}
	srv.start(t)
	s := newSink(t, options(t, srv.addr))
	large := "Subject: x\r\n\r\n" + strings.Repeat("x", 1000)
	o := send(t, t.Context(), s, "", large, body(1))
	o.wantLanded(t, 1)
	wantError(t, o.receipts[0].Err, deliver.FaultMessage, "1016 octets", "1000")
	// RFC 1870 §4: the size is that of the message with its line ends, before
	// dots are added.
	if sent := srv.commands("MAIL"); !slices.Equal(sent, []string{fmt.Sprintf("MAIL FROM:<> BODY=8BITMIME SIZE=%d", len(body(1)))}) {
		t.Errorf("the client sent %q", sent)
	}
}

// A header of 10 MiB in one line arrives unchanged.
func TestHugeHeader(t *testing.T) {
	srv := &scripted{}
	srv.start(t)
	huge := "Subject: " + strings.Repeat("x", 10<<20) + "\r\n\r\nbody\r\n"
	send(t, t.Context(), newSink(t, options(t, srv.addr)), "", huge).wantLanded(t, 0)
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if len(srv.bodies) != 1 || srv.bodies[0] != huge {
		t.Error("the message is not the same")
	}
}

// The sender is that of the options or of the message. An address that is not valid
// becomes the null sender.
func TestSender(t *testing.T) {
	srv := &scripted{extensions: []string{"SMTPUTF8"}}
	srv.start(t)
	for _, test := range []struct {
		opts   smtp.Options
		sender string
		want   string
	}{
		{smtp.Options{}, "you@example.org", "<you@example.org>"},
		{smtp.Options{}, "", "<>"},
		{smtp.Options{}, "you", "<>"},
		{smtp.Options{}, "you@example.org>\r\nRCPT TO:<x@example.org", "<>"},
		{smtp.Options{}, "you\x00@example.org", "<>"},
		{smtp.Options{}, "you@example..org", "<>"},
		{smtp.Options{}, "-you@example.org", "<>"},
		{smtp.Options{}, "yöu@example.org", "<yöu@example.org> SMTPUTF8"},
		{smtp.Options{Sender: "us@example.org"}, "you@example.org", "<us@example.org>"},
		{smtp.Options{NullSender: true}, "you@example.org", "<>"},
	} {
		o := options(t, srv.addr)
		o.Sender, o.NullSender = test.opts.Sender, test.opts.NullSender
		send(t, t.Context(), newSink(t, o), test.sender, body(0)).wantLanded(t, 0)
		sent := srv.commands("MAIL")
		if got := sent[len(sent)-1]; got != "MAIL FROM:"+test.want {
			t.Errorf("from %q: sent %q, want %s", test.sender, got, test.want)
		}
	}

	ascii := &scripted{}
	ascii.start(t)
	o := send(t, t.Context(), newSink(t, options(t, ascii.addr)), "yöu@example.org", body(0), body(1))
	wantError(t, o.receipts[0].Err, deliver.FaultMessage, "SMTPUTF8")
	opts := options(t, ascii.addr)
	opts.To = []string{"mé@example.org"}
	_, err := newSink(t, opts).Begin(t.Context())
	wantError(t, err, deliver.FaultOperator)
}

func TestBadAddresses(t *testing.T) {
	for _, to := range []string{
		"", "a", "a@", "@b", "a b@c", "a@b\r\nDATA", "a@b\x00", "a@b>", "<a@b>", "a@b c", "\xff@b", strings.Repeat("a", 320) + "@b",
	} {
		for name, o := range map[string]smtp.Options{
			"to":        {To: []string{"a@b", to}},
			"sender":    {To: []string{"a@b"}, Sender: to},
			"recipient": {To: []string{to}, LMTP: true},
		} {
			if name == "sender" && to == "" || name == "recipient" && to == "a" {
				continue
			}
			if _, err := smtp.New(o); err == nil {
				t.Errorf("%s %q is taken", name, to)
			} else {
				wantError(t, err, deliver.FaultOperator)
			}
		}
	}
	for _, o := range []smtp.Options{{To: []string{"a@b"}, Hello: "a b"}, {To: []string{"a@b"}, Hello: "a\r\nQUIT"}} {
		_, err := smtp.New(o)
		wantError(t, err, deliver.FaultOperator)
	}
	for _, to := range []string{"a@b", "a+b@c.example", `"a/b"@c`, "a@[127.0.0.1]", "é@example.org"} {
		if _, err := smtp.New(smtp.Options{To: []string{to}}); err != nil {
			t.Error(err)
		}
	}
}
