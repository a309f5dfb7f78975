// Package servertest runs real POP3 servers for tests, so that the client is
// measured against what servers do and not against what we think they do.
// Each server is a child process of the test with its own folder, ports and
// accounts on the loopback interface; nothing of the system's own mail setup
// is read or written.
//
// There are two, which share no code: Dovecot, which most mailboxes live on,
// and GNU Mailutils, whose habits are all different: unique-ids in a header
// field that it adds, a capability with its blank missing, sizes that do not
// match.
package servertest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TB is what a server needs of the test that runs it: a testing.TB, or what a
// program that is no test makes of one. Fatal and Fatalf do not return.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Skipf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

var _ TB = testing.TB(nil)

// Server is a POP3 server that runs until the test ends.
type Server struct {
	// Addr offers plain POP3 and STLS; passwords are taken on either.
	Addr string
	// TLSAddr is TLS from the first byte (RFC 8314 §3.3).
	TLSAddr string
	// CAFile is a PEM file with the certificate that clients are to trust. It
	// is good for localhost and 127.0.0.1.
	CAFile string

	tb       TB
	dir      string
	cert     certificate
	uid, gid int
	stored   int
	addUser  func(user, pass string) error
	// tag gives a stored message what the server would otherwise add to it.
	tag func(stored []byte) []byte
}

// TLSConfig trusts the server, under the name localhost, and nobody else.
func (s *Server) TLSConfig() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.cert.cert)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// AddUser creates an account with an empty maildrop. The user's name has the
// form name@domain. Accounts can be added while the server runs.
func (s *Server) AddUser(user, pass string) {
	s.tb.Helper()
	if err := s.makeMaildir(user); err != nil {
		s.tb.Fatal(err)
	}
	if err := s.addUser(user, pass); err != nil {
		s.tb.Fatal(err)
	}
}

// newServer makes the folder of a server in parent, or where temporary files
// go, with its certificate. The folder is
// not tb.TempDir: its name must be short enough for the sockets in it, and
// the server's unprivileged processes must be able to enter it.
func newServer(tb TB, parent string) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp(parent, "pop3-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("the server's folder is still in use: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	s := &Server{
		tb:     tb,
		dir:    dir,
		CAFile: filepath.Join(dir, "cert.pem"),
		uid:    os.Getuid(),
		gid:    os.Getgid(),
		tag:    func(stored []byte) []byte { return stored },
	}
	if s.uid == 0 {
		s.uid, s.gid = nobody, nobody // Dovecot gives root no mail
	}
	if s.cert, err = newCertificate(); err != nil {
		tb.Fatal(err)
	}
	for name, pem := range map[string][]byte{"cert.pem": s.cert.cert, "key.pem": s.cert.key} {
		if err := os.WriteFile(filepath.Join(dir, name), pem, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// nobody is the user and group that owns the maildrops if the test is root.
const nobody = 65534

// appendTo adds a line to a password file, which it creates if need be.
func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// missing ends a test that needs a server which is not installed. On a
// developer's machine that skips the test; where the servers must be there,
// it fails.
func missing(tb TB, what string) {
	tb.Helper()
	if os.Getenv("MAILHAUL_REQUIRE_SERVERS") == "1" || os.Getenv("CI") != "" {
		tb.Fatalf("%s is missing; run .ci/deps", what)
	}
	tb.Skipf("NOT TESTED: %s is missing; run .ci/deps to install it", what)
}
