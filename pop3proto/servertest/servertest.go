// Package servertest runs real mail servers for tests, so that the program is
// measured against what servers do and not against what we think they do.
// Each server is a child process of the test with its own folder, ports and
// accounts on the loopback interface; nothing of the system's own mail setup
// is read or written.
//
// POP3 is served by two that share no code: Dovecot, which most mailboxes live
// on, and GNU Mailutils, whose habits are all different: unique-ids in a header
// field that it adds, a capability with its blank missing, sizes that do not
// match. Mail is taken by Dovecot too, by IMAP and LMTP, and by Postfix.
package servertest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
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

// Server is a mail server that runs until the test ends.
type Server struct {
	// Addr speaks in the clear and offers TLS. Passwords are taken on either, but
	// by Postfix on TLS alone.
	Addr string
	// TLSAddr is TLS from the first byte (RFC 8314 §3.3).
	TLSAddr string
	// CAFile is a PEM file with the certificate that clients are to trust. It
	// is good for localhost and 127.0.0.1.
	CAFile string

	tb       TB
	dir      string
	roots    *x509.CertPool
	run      func() error // starts it on its addresses
	kill     func()
	uid, gid int
	stored   int
	addUser  func(user, pass string) error
	// tag gives a stored message what the server would otherwise add to it.
	tag func(stored []byte) []byte
}

// TLSConfig trusts the server, under the name localhost, and nobody else.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: "localhost"}
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
// go, with its certificate. The folder is not tb.TempDir: its name must be
// short enough for the sockets in it, and the server's unprivileged processes
// must be able to enter it.
func newServer(tb TB, parent string) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp(parent, "mail-")
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
		tb:    tb,
		dir:   dir,
		roots: x509.NewCertPool(),
		kill:  func() {},
		uid:   os.Getuid(),
		gid:   os.Getgid(),
		tag:   func(stored []byte) []byte { return stored },
	}
	s.CAFile = s.file("cert.pem")
	if s.uid == 0 {
		s.uid, s.gid = nobody, nobody // Dovecot gives root no mail
	}
	cert, ca, err := pop3test.SelfSigned("localhost", "127.0.0.1")
	if err != nil {
		tb.Fatal(err)
	}
	key, err := pop3test.KeyPEM(cert)
	if err != nil {
		tb.Fatal(err)
	}
	s.roots.AppendCertsFromPEM(ca)
	s.write("cert.pem", string(ca), 0o600)
	s.write("key.pem", string(key), 0o600)
	return s
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// write makes a file, which has that mode under any umask: servers run as users of their
// own.
func (s *Server) write(name, text string, mode os.FileMode) {
	s.tb.Helper()
	if err := errors.Join(os.WriteFile(s.file(name), []byte(text), mode), os.Chmod(s.file(name), mode)); err != nil {
		s.tb.Fatal(err)
	}
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
