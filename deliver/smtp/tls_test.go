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

// login makes a server's options those of a login.
func login(s *remote.Server) {
	s.User = "me"
	s.Secret = func(context.Context) (string, error) { return password, nil }
}

func TestStartTLS(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp, extensions: []string{"STARTTLS", "AUTH GSSAPI PLAIN LOGIN"}}
		roots := script(t, srv)
		opts := options(t, srv.addr)
		opts.LMTP = lmtp
		opts.Server.Security, opts.Server.TLS = remote.StartTLS, &tls.Config{RootCAs: roots}
		login(&opts.Server)
		send(t, t.Context(), newSink(t, opts), "", body(0), body(1)).wantLanded(t, 0, 1)
		srv.wantBodies(t, body(0), body(1))
		if srv.commands[1] != "STARTTLS" || !strings.Contains(srv.commands[2], "client.example.org") ||
			srv.commands[3] != "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00me\x00"+password)) {
			t.Errorf("LMTP %v: said %q", lmtp, srv.commands)
		}
	}
}

// A server that hangs up before it greets is not offered the TLS session that it did it on.
func TestSessionInVain(t *testing.T) {
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

// Nothing but a handshake may follow STARTTLS, and without one no password and
// no message leaves.
func TestNotEncrypted(t *testing.T) {
	for _, test := range []struct {
		name       string
		extensions []string
		reply      map[string]string
		name2      string // to verify
		fault      deliver.Fault
		words      []string
		hint       string
	}{
		{"not offered", nil, nil, "", deliver.FaultOperator, []string{"does not offer STARTTLS"}, "implicit"},
		{"refused", []string{"STARTTLS"}, map[string]string{"STARTTLS": "502 no"}, "", deliver.FaultOperator, []string{"502", `"no"`}, "implicit"},
		{"not now", []string{"STARTTLS"}, map[string]string{"STARTTLS": "454 later"}, "", deliver.FaultTemporary, []string{"454"}, ""},
		{"injected", []string{"STARTTLS"}, map[string]string{"STARTTLS": "220 go on\r\n250-here\r\n250 AUTH PLAIN"}, "", deliver.FaultOperator, []string{"TLS"}, "do not trust"},
		{"wrong name", []string{"STARTTLS"}, nil, "mail.invalid", deliver.FaultOperator, []string{"mail.invalid"}, "name that the certificate is for"},
		{"no greeting", nil, map[string]string{"greeting": "+OK POP3"}, "", deliver.FaultTemporary, []string{"does not speak SMTP", `"+OK POP3"`}, "check host, port and tls"},
		{"no service", nil, map[string]string{"greeting": "554 not for you"}, "", deliver.FaultOperator, []string{`554 "not for you"`}, "operator"},
		{"hung up", nil, map[string]string{"greeting": hangUp}, "", deliver.FaultTemporary, []string{"hung up"}, "check host, port and tls"},
		{"no EHLO", nil, map[string]string{"EHLO": "502 what"}, "", deliver.FaultOperator, []string{`502 "what"`}, "LMTP where it has smtp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := &scripted{extensions: append(test.extensions, "AUTH PLAIN"), reply: on(test.reply)}
			roots := script(t, srv)
			opts := options(t, srv.addr)
			opts.Server.Security = remote.StartTLS
			opts.Server.TLS = &tls.Config{RootCAs: roots, ServerName: test.name2}
			login(&opts.Server)
			_, err := newSink(t, opts).Begin(t.Context())
			wantError(t, err, test.fault, test.words...)
			if e, ok := errors.AsType[*deliver.Error](err); ok && !strings.Contains(e.Hint, test.hint) {
				t.Errorf("hint %q, want %q", e.Hint, test.hint)
			}
			if len(srv.said("AUTH"))+len(srv.said("MAIL")) > 0 {
				t.Errorf("said %q", srv.commands)
			}
		})
	}
}

func TestAuth(t *testing.T) {
	for _, test := range []struct {
		name  string
		offer string
		reply map[string]string
		fault deliver.Fault
		words []string
	}{
		{"wrong", "AUTH PLAIN LOGIN", map[string]string{"AUTH": "535 5.7.8 wrong"}, deliver.FaultOperator, []string{"535 5.7.8", "wrong"}},
		{"not now", "AUTH PLAIN", map[string]string{"AUTH": "454 4.7.0 later"}, deliver.FaultTemporary, []string{"454 4.7.0"}},
		{"unknown", "AUTH GSSAPI", nil, deliver.FaultOperator, []string{"GSSAPI"}},
		{"none", "8BITMIME", nil, deliver.FaultOperator, []string{"offers nothing"}},
		{"wants more", "AUTH PLAIN", map[string]string{"AUTH": "334 bW9yZQ=="}, deliver.FaultOperator, nil},
		{"echo", "AUTH PLAIN", map[string]string{"AUTH": "535 " + strings.Repeat("x", 280) + "AUTH PLAIN " + plainResponse}, deliver.FaultOperator, []string{"535"}},
		{"password", "AUTH PLAIN", map[string]string{"AUTH": "454 not \x00me\x00" + password}, deliver.FaultTemporary, []string{"454"}},
		{"nonsense", "AUTH PLAIN", map[string]string{"AUTH": password + " " + plainResponse}, deliver.FaultTemporary, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := &scripted{extensions: []string{test.offer}, reply: on(test.reply)}
			script(t, srv)
			opts := options(t, srv.addr)
			login(&opts.Server)
			_, err := newSink(t, opts).Begin(t.Context())
			wantError(t, err, test.fault, test.words...)
			if err != nil && (strings.Contains(err.Error(), password[:5]) || strings.Contains(err.Error(), plainResponse[:8])) {
				t.Errorf("the password is in %q", err)
			}
		})
	}

	// A login that the server asks for only when a message comes is no fault
	// of the message's.
	srv := &scripted{reply: on(map[string]string{"MAIL": "530 5.7.0 log in first"})}
	script(t, srv)
	o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0))
	o.wantLanded(t)
	wantError(t, o.err, deliver.FaultOperator, "530 5.7.0")
	if len(o.receipts) > 0 {
		t.Errorf("receipts: %v", o.receipts)
	}
}

// A real exchange of LOGIN, with another implementation.
func TestLogin(t *testing.T) {
	m := newMemory(t, false)
	opts := options(t, m.addr)
	login(&opts.Server)
	_, err := newSink(t, opts).Begin(t.Context())
	wantError(t, err, deliver.FaultOperator, "AUTH: 535")
	opts.Server.Secret = func(context.Context) (string, error) { return "secret", nil }
	send(t, t.Context(), newSink(t, opts), "", body(0)).wantLanded(t, 0)
}
