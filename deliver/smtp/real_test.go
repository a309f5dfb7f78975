package smtp_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
	"github.com/mailhaul/mailhaul/testdata"
)

// realMessages returns the messages of testdata in wire form.
func realMessages(t *testing.T) []string {
	t.Helper()
	messages, err := testdata.All()
	if err != nil {
		t.Fatal(err)
	}
	var wire []string
	for _, text := range messages {
		text = strings.ReplaceAll(text, "\r\n", "\n")
		wire = append(wire, strings.ReplaceAll(text, "\n", "\r\n"))
	}
	return wire
}

// wantMail checks that a user has exactly these messages, given in wire form.
func wantMail(t *testing.T, srv *servertest.Server, user string, wire ...string) {
	t.Helper()
	left := srv.WaitForMessages(user+"@example.org", len(wire))
	for _, w := range wire {
		if n := slices.Index(left, canon(w)); n >= 0 {
			left = slices.Delete(left, n, n+1)
		} else {
			t.Errorf("%s does not have %.300q", user, canon(w))
		}
	}
	for _, msg := range left {
		t.Errorf("%s has, too: %.300q", user, msg)
	}
}

// wantAllLanded checks that every message of the batch landed.
func (o outcome) wantAllLanded(t *testing.T) {
	t.Helper()
	if o.err != nil || len(o.receipts) != len(o.promises) {
		t.Fatalf("Commit: %v, %d receipts for %d messages", o.err, len(o.receipts), len(o.promises))
	}
	for n, r := range o.receipts {
		if r.Err != nil {
			t.Errorf("message %d: %v", n, r.Err)
		}
	}
}

// asPostfix returns messages as Postfix delivers them: with an empty line before the first
// line of the header that is no field.
func asPostfix(wire []string) []string {
	field := regexp.MustCompile(`^[!-9;-~]+[ \t]*:`)
	var out []string
	for _, w := range wire {
		lines := strings.SplitAfter(w, "\r\n")
		for i, line := range lines {
			if line == "\r\n" || line == "" {
				break
			}
			if folded := i > 0 && (line[0] == ' ' || line[0] == '\t'); !folded && !field.MatchString(line) {
				lines[i] = "\r\n" + line
				break
			}
		}
		out = append(out, strings.Join(lines, ""))
	}
	return out
}

// realOptions returns options for a real server and users at example.org.
func realOptions(t *testing.T, server remote.Server, lmtp bool, to ...string) smtp.Options {
	o := options(t, "")
	o.Server, o.LMTP, o.To = server, lmtp, addresses(to)
	return o
}

// pass is the password of every user.
const pass = `s3cret: "x"`

func secret(context.Context) (string, error) { return pass, nil }

// startDovecot starts a Dovecot that receives mail by LMTP for users at example.org.
func startDovecot(t *testing.T, users ...string) *servertest.Server {
	t.Helper()
	s := servertest.Dovecot(t, servertest.DovecotOptions{Protocol: "lmtp", Mechanisms: []string{"plain", "login", "scram-sha-256"}})
	for _, user := range addresses(users) {
		s.AddUser(user, pass)
	}
	return s
}

// startPostfix starts a Postfix for users at example.org. The user me can log in.
func startPostfix(t *testing.T, users ...string) *servertest.Server {
	t.Helper()
	return servertest.Postfix(t, startDovecot(t, "me"), addresses(users)...)
}

// addresses returns the addresses of users at example.org.
func addresses(users []string) (list []string) {
	for _, user := range users {
		list = append(list, user+"@example.org")
	}
	return list
}

func TestDovecot(t *testing.T) {
	srv := startDovecot(t, "me", "you", "tls", "implicit", "some")
	all := realMessages(t)

	t.Run("corpus over a UNIX socket", func(t *testing.T) {
		s := newSink(t, realOptions(t, remote.Server{Addr: srv.Socket()}, true, "me", "you"))
		o := send(t, t.Context(), s, "sender@example.com", all...)
		o.wantAllLanded(t)
		wantMail(t, srv, "me", all...)
		wantMail(t, srv, "you", all...)
	})
	t.Run("STARTTLS", func(t *testing.T) {
		server := remote.Server{Addr: srv.Addr, Security: remote.StartTLS, TLS: srv.TLSConfig()}
		send(t, t.Context(), newSink(t, realOptions(t, server, true, "tls")), "", body(0), body(1)).wantLanded(t, 0, 1)
		wantMail(t, srv, "tls", body(0), body(1))
	})
	t.Run("implicit TLS", func(t *testing.T) {
		server := remote.Server{Addr: srv.TLSAddr, TLS: srv.TLSConfig()}
		send(t, t.Context(), newSink(t, realOptions(t, server, true, "implicit")), "", body(0)).wantLanded(t, 0)
		wantMail(t, srv, "implicit", body(0))
	})
	t.Run("not SMTP", func(t *testing.T) {
		_, err := newSink(t, realOptions(t, remote.Server{Addr: srv.Addr, Security: remote.PlainText}, false, "me")).Begin(t.Context())
		wantHint(t, err, "or LMTP where it has smtp")
	})
	t.Run("unknown recipient", func(t *testing.T) {
		opts := realOptions(t, remote.Server{Addr: srv.Addr, Security: remote.PlainText}, true, "some", "nobody")
		s := newSink(t, opts)
		o := send(t, t.Context(), s, "", body(0), body(1))
		o.wantLanded(t)
		wantError(t, o.receipts[0].Err, deliver.FaultMessage, "nobody@example.org", "RCPT: 550 5.1.1", "1 of 2")
		// A new sink stands for another process. The user "some" gets no second copy.
		send(t, t.Context(), newSink(t, opts), "", body(0), body(1)).wantLanded(t)
		wantMail(t, srv, "some", body(0), body(1))
	})
}

func TestPostfix(t *testing.T) {
	srv := startPostfix(t, "me", "you", "tls", "grey", "size", "batch", "odd")
	all := realMessages(t)
	plain := remote.Server{Addr: srv.Addr, Security: remote.PlainText}

	t.Run("corpus", func(t *testing.T) {
		o := send(t, t.Context(), newSink(t, realOptions(t, plain, false, "me", "you")), "sender@example.com", all...)
		o.wantAllLanded(t)
		wantMail(t, srv, "me", asPostfix(all)...)
		wantMail(t, srv, "you", asPostfix(all)...)
	})
	t.Run("not LMTP", func(t *testing.T) {
		_, err := newSink(t, realOptions(t, plain, true, "me")).Begin(t.Context())
		wantHint(t, err, "SMTP where the sink has lmtp")
	})
	t.Run("STARTTLS and login", func(t *testing.T) {
		server := remote.Server{
			Addr: srv.Addr, Security: remote.StartTLS, TLS: srv.TLSConfig(), User: "me@example.org", Secret: secret,
		}
		send(t, t.Context(), newSink(t, realOptions(t, server, false, "tls")), "", body(0)).wantLanded(t, 0)
		server = remote.Server{Addr: srv.TLSAddr, TLS: srv.TLSConfig(), User: "me@example.org", Secret: secret}
		send(t, t.Context(), newSink(t, realOptions(t, server, false, "tls")), "", body(1)).wantAllLanded(t)
		wantMail(t, srv, "tls", body(0), body(1))

		server.Secret = func(context.Context) (string, error) { return "wrong", nil }
		_, err := newSink(t, realOptions(t, server, false, "tls")).Begin(t.Context())
		wantError(t, err, deliver.FaultOperator, "AUTH: 535")
		server.User = ""
		o := send(t, t.Context(), newSink(t, realOptions(t, server, false, "tls")), "", body(1))
		o.wantLanded(t)
		// Without TLS, Postfix offers no login.
		_, err = newSink(t, realOptions(t, remote.Server{
			Addr: srv.Addr, Security: remote.PlainText, User: "me@example.org", Secret: secret,
		}, false, "tls")).Begin(t.Context())
		wantError(t, err, deliver.FaultOperator, "offers nothing")
		_, err = newSink(t, realOptions(t, remote.Server{Addr: srv.Addr, Security: remote.StartTLS}, false, "tls")).Begin(t.Context())
		wantError(t, err, deliver.FaultOperator)
	})
	t.Run("greylisted", func(t *testing.T) {
		s := newSink(t, realOptions(t, plain, false, "grey"))
		o := send(t, t.Context(), s, "stranger@example.com", body(0))
		o.wantLanded(t)
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary, "450 4.7.1", "greylisted")
		send(t, t.Context(), s, "stranger@example.com", body(0)).wantLanded(t, 0)
		wantMail(t, srv, "grey", body(0))
	})
	t.Run("refused recipients", func(t *testing.T) {
		o := send(t, t.Context(), newSink(t, realOptions(t, plain, false, "batch", "later")), "", body(0))
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary, "later@example.org", "450 4.2.0")
		o = send(t, t.Context(), newSink(t, realOptions(t, plain, false, "batch", "nobody")), "", body(1))
		wantError(t, o.receipts[0].Err, deliver.FaultMessage, "nobody@example.org", "550 5.1.1")
		wantMail(t, srv, "batch", body(0), body(1))
	})
	t.Run("senders that Postfix would refuse", func(t *testing.T) {
		s := newSink(t, realOptions(t, plain, false, "odd"))
		senders := []string{
			"a@b..c", "a@.b", "a@-b.c", "a@b.-c", "a@[foo]", "a@1.2.3.4", "-a@b.c",
			"a@" + strings.Repeat("x", 64) + ".org", "a@" + strings.Repeat("x.", 128) + "org",
		}
		for n, sender := range senders {
			send(t, t.Context(), s, sender, body(n)).wantLanded(t, 0)
		}
	})
	t.Run("size limit", func(t *testing.T) {
		large := "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", servertest.SizeLimit/3)
		o := send(t, t.Context(), newSink(t, realOptions(t, plain, false, "size")), "", body(0), large, body(2))
		o.wantLanded(t, 0, 2)
		wantError(t, o.receipts[1].Err, deliver.FaultMessage, "octets")
		wantMail(t, srv, "size", body(0), body(2))
	})
}
