package fetch_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// tunnelRole makes the test binary act as the program of a tunnel: it connects standard
// input and output to a host and port. With a number behind them it fails after so many
// bytes from the server.
const tunnelRole = "play tunnel"

func playTunnel(args []string) int {
	conn, err := net.Dial("tcp", net.JoinHostPort(args[0], args[1]))
	if err != nil {
		return 1
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(conn, os.Stdin) }()
	if len(args) == 2 {
		_, _ = io.Copy(os.Stdout, conn)
		return 0
	}
	n, _ := strconv.ParseInt(args[2], 10, 64)
	_, _ = io.CopyN(os.Stdout, conn, n)
	fmt.Fprintln(os.Stderr, "packet_write_wait: Broken pipe")
	return 255
}

// useTunnel has the account reach its server through that program.
func (r *rig) useTunnel(args ...string) {
	r.t.Helper()
	self, err := os.Executable()
	check(r.t, err)
	r.account.Server.Via = channel.Via{Tunnel: append([]string{self, tunnelRole, "{host}", "{port}"}, args...)}
}

func TestPollThroughTunnel(t *testing.T) {
	r, _ := newTLSRig(t, fetch.StartTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
	r.useTunnel()
	want := r.fill(3)
	r.mustPoll()
	r.expectDelivered(want...)
}

// A tunnel that dies is reported with its reason, and the poll goes on over another
// connection.
func TestTunnelDies(t *testing.T) {
	const why = `exit status 255: "packet_write_wait: Broken pipe"`
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.useTunnel("100")
	s := r.poll()
	if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), why) || fetch.Hint(s.Err) == "" {
		t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
	}

	// If the tunnel dies in the middle of a message, the next connection brings it.
	r.drop.Add("large", []byte("Subject: large\n\n"+strings.Repeat("0123456789\n", 10_000)))
	r.useTunnel("20000")
	r.account.Server.Preconnect = func(context.Context) error { r.account.Server.Via = channel.Via{}; return nil }
	if s := r.poll(); s.Class != fetch.ClassFine || s.Sessions != 2 || len(r.mail()) != len(want)+1 {
		t.Errorf("%v: %v, %d sessions, %d messages", s.Class, s.Err, s.Sessions, len(r.mail()))
	}
	notes := eventsOf[fetch.Noticed](r)
	if len(notes) != 1 || !strings.Contains(notes[0].Text, why) {
		t.Errorf("noticed %+v", notes)
	}
}

// A server that does not answer counts as not reached, whether it was to be connected to
// or to begin TLS: the hint says to check server, port and tls.
func TestUnreachedServerHint(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"connect": func(context.Context, string, string) (net.Conn, error) { return nil, channel.Silence(time.Minute) },
		"secure": func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			return near, far.Close()
		},
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Server.Security, r.account.Server.Dial = fetch.ImplicitTLS, dial
		if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(fetch.Hint(s.Err), "check server, its port and tls") {
			t.Errorf("%s: %v: %v (%q)", name, s.Class, s.Err, fetch.Hint(s.Err))
		}
	}
}

// A server that resumes a TLS session and then fails is offered a new session by the next
// poll.
func TestFailedResumptionIsNotRepeated(t *testing.T) {
	cert, ca, err := pop3test.Certificate(pop3test.CertOptions{})
	check(t, err)
	var resumed atomic.Bool
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	config.SetSessionTicketKeys([][32]byte{{1}})
	config.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		resumed.Store(true)
		return config.DecryptTicket(identity, cs)
	}
	server := pop3test.New(pop3test.Options{TLS: config})
	server.Order(pop3test.Ignore(pop3test.Greeting, pop3test.HangUp).When(func(*pop3test.Exchange) bool { return resumed.Swap(false) }))
	check(t, server.StartTLS())
	defer server.Close()
	r := newRig(t, pop3test.Behaviour{})
	r.useServer(server)
	r.account.Server.Security = fetch.ImplicitTLS
	r.account.Server.TLS = channel.Trust{}.Config(server.Addr(), channel.NewSessions(t.TempDir()))
	r.account.Server.TLS.RootCAs = trusting(ca).RootCAs
	r.mustPoll()
	if s := r.poll(); s.Class != fetch.ClassRetry {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.mustPoll()
}

// Preconnect runs before each connection. If it fails, no connection is made.
func TestPreconnectRunsBeforeConnections(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(4)
	r.account.MaxMessages = 2
	calls := 0
	r.account.Server.Preconnect = func(context.Context) error {
		if calls++; calls > r.server.Sessions()+1 {
			t.Errorf("call %d after %d connections", calls, r.server.Sessions())
		}
		return nil
	}
	if s := r.mustPoll(); s.Sessions != 2 || calls != 2 {
		t.Errorf("%d calls for %d sessions", calls, s.Sessions)
	}

	before := r.server.Sessions()
	failed := &fetch.HookError{Hook: "preconnect", Err: errors.New("exit status 1")}
	r.account.Server.Preconnect = func(context.Context) error { return failed }
	s := r.poll()
	if _, err := r.account.Check(t.Context(), r.opts); !errors.Is(err, failed) {
		t.Errorf("check: %v", err)
	}
	if s.Class != fetch.ClassRetry || !errors.Is(s.Err, failed) || r.server.Sessions() != before {
		t.Errorf("%v: %v, %d connections", s.Class, s.Err, r.server.Sessions()-before)
	}
	failed.Person = true
	if s := r.poll(); s.Class != fetch.ClassOperator || fetch.Hint(s.Err) == "" {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
}

// A Postpoll that hangs is ended at most a minute after its poll was cancelled.
func TestPostpollHangs(t *testing.T) {
	for _, called := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			a := newFarm(t).account("ada", "pop")
			a.Postpoll = func(ctx context.Context, s fetch.Summary) error {
				check(t, ctx.Err())
				<-ctx.Done()
				return context.Cause(ctx)
			}
			o := newMemory().options()
			var warned []string
			o.Observer = func(e fetch.Event) {
				if e, ok := e.(fetch.Warned); ok {
					warned = append(warned, e.Text)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), called)
			defer cancel()
			begun := time.Now()
			a.Poll(ctx, o)
			if took := time.Since(begun); took <= called || took > called+time.Minute {
				t.Errorf("called off after %v, it was ended after %v", called, took)
			}
			if len(warned) != 1 || !strings.Contains(warned[0], "postpoll") {
				t.Errorf("warned of %q", warned)
			}
		})
	}
}

// Postpoll is given the summary of each poll that was begun, also if it failed or was
// cancelled, and not that of a skipped poll, a dry run or a check. Its own failure is a
// warning.
func TestPostpollGetsSummary(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(2)
	var seen []fetch.Summary
	r.account.Postpoll = func(ctx context.Context, s fetch.Summary) error {
		check(t, ctx.Err())
		seen = append(seen, s)
		return errors.New("postpoll: exit status 1")
	}
	r.mustPoll()
	if len(seen) != 1 || seen[0].Fetched != 2 || seen[0].Deleted != 2 || seen[0].Class != fetch.ClassFine {
		t.Errorf("told of %+v", seen)
	}
	if warned := eventsOf[fetch.Warned](r); len(warned) != 1 || warned[0].Text != "postpoll: exit status 1" {
		t.Errorf("warned of %+v", warned)
	}

	// Postpoll undoes what Preconnect did, however the poll ends.
	r.server.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	r.poll()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.account.Poll(ctx, r.opts)
	if len(seen) != 3 || seen[1].Err == nil || seen[2].Err == nil {
		t.Errorf("told of %+v", seen)
	}

	// It is not called where nothing was done.
	lease, err := r.store.Lease(t.Context(), r.account.Name)
	check(t, err)
	r.poll()
	check(t, lease.Release())
	r.opts.DryRun = true
	r.poll()
	if _, err := r.account.Check(t.Context(), r.opts); err == nil {
		t.Error("the server lets us in again")
	}
	if len(seen) != 3 {
		t.Errorf("told of %+v", seen[3:])
	}
}

// clientCert makes a certificate for a user, which is its own authority.
func clientCert(t *testing.T, user string) (cert tls.Certificate, authority []byte) {
	t.Helper()
	cert, authority, err := pop3test.Certificate(pop3test.CertOptions{Name: user})
	check(t, err)
	return cert, authority
}

// writeCerts writes certificates to a file and returns its path.
func writeCerts(t *testing.T, certificates ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(path, slices.Concat(certificates...), 0o600))
	return path
}

// singleLoginProcess is a configuration of Dovecot in which one process serves all logins:
// it then knows the session tickets that it gave.
const singleLoginProcess = `
service pop3-login {
  service_count = 0
  process_limit = 1
}
`

// certificatesOnly is a configuration of Dovecot that accepts client certificates alone.
const certificatesOnly = `
ssl_ca = <FILE
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_ssl_require_client_cert = yes
auth_ssl_username_from_cert = yes
ssl_cert_username_field = commonName
passdb {
  driver = static
  mechanisms = external
  args = nopassword=y
}
`

// A login by client certificate succeeds with the right certificate only.
func TestClientCertificateLogin(t *testing.T) {
	mine, authority := clientCert(t, user)
	eves, other := clientCert(t, "eve@example.org")
	stranger, _ := clientCert(t, user)
	file := writeCerts(t, authority, other)
	s := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"external", "plain"}, Config: strings.ReplaceAll(certificatesOnly, "FILE", file),
	})
	s.AddUser(user, secret)
	for _, security := range []fetch.Security{fetch.ImplicitTLS, fetch.StartTLS} {
		for what, test := range map[string]struct {
			cert tls.Certificate
			says string // a part of the error; empty if the login succeeds
		}{
			"the right one":        {mine, ""},
			"another user's":       {eves, "cannot log in"},
			"of another authority": {stranger, "cannot log in"},
		} {
			r, _ := newRealRig(t, s, user, security, nil)
			r.account.Secret = nil
			trust := channel.Trust{CAs: readCerts(t, s.CAFile), Certificate: &test.cert}
			r.account.Server.TLS = trust.Config(r.account.Server.Addr(), channel.NewSessions(t.TempDir()))
			got := r.poll()
			if test.says != "" {
				if got.Class != fetch.ClassOperator || !strings.Contains(got.Err.Error(), test.says) || fetch.Hint(got.Err) == "" {
					t.Errorf("%s: %v: %v (%q)", what, got.Class, got.Err, fetch.Hint(got.Err))
				}
				continue
			}
			in := eventsOf[fetch.LoggedIn](r)
			if got.Class != fetch.ClassFine || len(in) != 1 || in[0].Mechanism != "external" {
				t.Errorf("%s: %v: %v, %+v", what, got.Class, got.Err, in)
			}
		}
	}
}

// A Dovecot that asks for client certificates hangs up on clients that offer a TLS
// session. It is polled all the same.
func TestResumptionRefused(t *testing.T) {
	_, authority := clientCert(t, user)
	file := writeCerts(t, authority)
	s := servertest.Dovecot(t, servertest.DovecotOptions{Config: "ssl_ca = <" + file + "\nssl_verify_client_cert = yes\nssl_require_crl = no\n" + singleLoginProcess})
	s.AddUser(user, secret)
	for _, security := range []fetch.Security{fetch.ImplicitTLS, fetch.StartTLS} {
		r, _ := newRealRig(t, s, user, security, nil)
		r.account.Server.TLS = channel.Trust{CAs: readCerts(t, s.CAFile)}.Config(r.account.Server.Addr(), channel.NewSessions(t.TempDir()))
		for range 3 {
			r.mustPoll()
		}
	}
}

// Each connection but the first resumes a TLS session of Dovecot.
func TestResumption(t *testing.T) {
	s := servertest.Dovecot(t, servertest.DovecotOptions{Config: singleLoginProcess})
	s.AddUser(user, secret)
	for _, security := range []fetch.Security{fetch.ImplicitTLS, fetch.StartTLS} {
		r, _ := newRealRig(t, s, user, security, nil)
		r.account.Server.TLS = channel.Trust{CAs: readCerts(t, s.CAFile)}.Config(r.account.Server.Addr(), channel.NewSessions(t.TempDir()))
		for range 3 {
			r.mustPoll()
		}
		for i, c := range eventsOf[fetch.Connected](r) {
			if c.State.DidResume != (i > 0) {
				t.Errorf("%v, connection %d: resumed %v", security, i, c.State.DidResume)
			}
		}
	}
}

// readCerts reads the certificate of a file.
func readCerts(t *testing.T, file string) []*x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	return []*x509.Certificate{cert}
}
