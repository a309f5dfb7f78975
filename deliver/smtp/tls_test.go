package smtp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/channel/channeltest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

const password = "s3cret-word"

// plainResponse is what PLAIN sends (RFC 4616 §2), in base64.
var plainResponse = base64.StdEncoding.EncodeToString([]byte("\x00me\x00" + password))

// login sets the user and the password of a server's options.
func login(s *remote.Server) {
	s.User = "me"
	s.Secret = func(context.Context) (string, error) { return password, nil }
}

func TestStartTLS(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp, extensions: []string{"STARTTLS", "AUTH GSSAPI PLAIN LOGIN"}}
		roots := srv.start(t)
		opts := options(t, srv.addr)
		opts.LMTP = lmtp
		opts.Server.Security, opts.Server.TLS = remote.StartTLS, &tls.Config{RootCAs: roots}
		login(&opts.Server)
		send(t, t.Context(), newSink(t, opts), "", body(0), body(1)).wantLanded(t, 0, 1)
		srv.wantBodies(t, body(0), body(1))
		if srv.received[1] != "STARTTLS" || !strings.Contains(srv.received[2], "client.example.org") ||
			srv.received[3] != "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00me\x00"+password)) {
			t.Errorf("LMTP %v: the client sent %q", lmtp, srv.received)
		}
	}
}

// If the server hangs up before its greeting, the TLS session is not resumed afterwards.
func TestTLSSessionNotResumed(t *testing.T) {
	cert, ca, err := pop3test.Certificate(pop3test.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	channeltest.CheckNotResumed(t, cert, func(addr string) func() error {
		opts := options(t, addr)
		opts.Server.Security, opts.Server.TLS = remote.ImplicitTLS, channel.Trust{}.Config(addr, channel.NewSessions(t.TempDir()))
		opts.Server.TLS.RootCAs = x509.NewCertPool()
		opts.Server.TLS.RootCAs.AppendCertsFromPEM(ca)
		s := newSink(t, opts)
		return func() error { _, err := s.Begin(t.Context()); return err }
	})
}

// Nothing but the TLS handshake may follow the reply to STARTTLS. Without TLS, no password
// and no message is sent.
func TestStartTLSFails(t *testing.T) {
	for _, test := range []struct {
		name       string
		extensions []string
		reply      map[string]string
		serverName string // that the certificate must be for, if not the address
		fault      deliver.Fault
		words      []string
		hint       string
	}{
		{name: "not offered", fault: deliver.FaultOperator, words: []string{"does not offer STARTTLS"}, hint: "implicit"},
		{name: "refused", extensions: []string{"STARTTLS"}, reply: map[string]string{"STARTTLS": "502 no"}, fault: deliver.FaultOperator, words: []string{"502", `"no"`}, hint: "implicit"},
		{name: "not now", extensions: []string{"STARTTLS"}, reply: map[string]string{"STARTTLS": "454 later"}, fault: deliver.FaultTemporary, words: []string{"454"}},
		{name: "injected", extensions: []string{"STARTTLS"}, reply: map[string]string{"STARTTLS": "220 go on\r\n250-here\r\n250 AUTH PLAIN"}, fault: deliver.FaultOperator, words: []string{"TLS"}, hint: "do not trust"},
		{name: "wrong name", extensions: []string{"STARTTLS"}, serverName: "mail.invalid", fault: deliver.FaultOperator, words: []string{"mail.invalid"}, hint: "name that the certificate is for"},
		{name: "no greeting", reply: map[string]string{"greeting": "+OK POP3"}, fault: deliver.FaultTemporary, words: []string{"does not speak SMTP", `"+OK POP3"`}, hint: "check host, port and tls"},
		{name: "no service", reply: map[string]string{"greeting": "554 not for you"}, fault: deliver.FaultOperator, words: []string{`554 "not for you"`}, hint: "operator"},
		{name: "hung up", reply: map[string]string{"greeting": hangUp}, fault: deliver.FaultTemporary, words: []string{"hung up"}, hint: "check host, port and tls"},
		{name: "no EHLO", reply: map[string]string{"EHLO": "502 what"}, fault: deliver.FaultOperator, words: []string{`502 "what"`}, hint: "LMTP where it has smtp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := &scripted{extensions: append(test.extensions, "AUTH PLAIN"), reply: replyOnce(test.reply)}
			roots := srv.start(t)
			opts := options(t, srv.addr)
			opts.Server.Security = remote.StartTLS
			opts.Server.TLS = &tls.Config{RootCAs: roots, ServerName: test.serverName}
			login(&opts.Server)
			_, err := newSink(t, opts).Begin(t.Context())
			wantError(t, err, test.fault, test.words...)
			if e, ok := errors.AsType[*deliver.Error](err); ok && !strings.Contains(e.Hint, test.hint) {
				t.Errorf("hint %q, want %q", e.Hint, test.hint)
			}
			if len(srv.commands("AUTH"))+len(srv.commands("MAIL")) > 0 {
				t.Errorf("the client sent %q", srv.received)
			}
		})
	}
}

// The error of a failed login never shows the password, nor the response that contains it.
func TestAuthFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		offer string
		reply map[string]string
		fault deliver.Fault
		words []string
	}{
		{name: "wrong", offer: "AUTH PLAIN LOGIN", reply: map[string]string{"AUTH": "535 5.7.8 wrong"}, fault: deliver.FaultOperator, words: []string{"535 5.7.8", "wrong"}},
		{name: "not now", offer: "AUTH PLAIN", reply: map[string]string{"AUTH": "454 4.7.0 later"}, fault: deliver.FaultTemporary, words: []string{"454 4.7.0"}},
		{name: "unknown", offer: "AUTH GSSAPI", fault: deliver.FaultOperator, words: []string{"GSSAPI"}},
		{name: "none", offer: "8BITMIME", fault: deliver.FaultOperator, words: []string{"offers nothing"}},
		{name: "wants more", offer: "AUTH PLAIN", reply: map[string]string{"AUTH": "334 bW9yZQ=="}, fault: deliver.FaultOperator},
		{name: "echo", offer: "AUTH PLAIN", reply: map[string]string{"AUTH": "535 " + strings.Repeat("x", 280) + "AUTH PLAIN " + plainResponse}, fault: deliver.FaultOperator, words: []string{"535"}},
		{name: "password", offer: "AUTH PLAIN", reply: map[string]string{"AUTH": "454 not \x00me\x00" + password}, fault: deliver.FaultTemporary, words: []string{"454"}},
		{name: "nonsense", offer: "AUTH PLAIN", reply: map[string]string{"AUTH": password + " " + plainResponse}, fault: deliver.FaultTemporary},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := &scripted{extensions: []string{test.offer}, reply: replyOnce(test.reply)}
			srv.start(t)
			opts := options(t, srv.addr)
			login(&opts.Server)
			_, err := newSink(t, opts).Begin(t.Context())
			wantError(t, err, test.fault, test.words...)
			if err != nil && (strings.Contains(err.Error(), password[:5]) || strings.Contains(err.Error(), plainResponse[:8])) {
				t.Errorf("the password is in %q", err)
			}
		})
	}

	// A server that demands a login only at MAIL has not refused the message.
	srv := &scripted{reply: replyOnce(map[string]string{"MAIL": "530 5.7.0 log in first"})}
	srv.start(t)
	o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0))
	o.wantLanded(t)
	wantError(t, o.err, deliver.FaultOperator, "530 5.7.0")
	if len(o.receipts) > 0 {
		t.Errorf("receipts: %v", o.receipts)
	}
}

// LOGIN with an independent server, that of go-smtp.
func TestLogin(t *testing.T) {
	m := newMemory(t, false)
	opts := options(t, m.addr)
	login(&opts.Server)
	_, err := newSink(t, opts).Begin(t.Context())
	wantError(t, err, deliver.FaultOperator, "AUTH: 535")
	opts.Server.Secret = func(context.Context) (string, error) { return "secret", nil }
	send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t, 0)
}
