// Package servertest runs real mail servers for tests. Each server is a child process of
// the test and listens on loopback. It has its own directory, ports and users; the mail
// setup of the system is neither read nor modified.
//
// Two servers without common code serve POP3: [Dovecot], the most widespread one, and
// [Mailutils], which differs in many ways: it stores unique-ids in a header field that it
// adds, omits a blank in a capability, and reports wrong sizes. Dovecot also receives mail
// by IMAP and LMTP, and [Postfix] by SMTP. [NewRealm] runs a Kerberos KDC, and [KPOP]
// authenticates the clients of a POP3 server with it.
//
// process.go starts and kills a server's process. maildrop.go reads and writes the mail
// that a server stores, which is in a Maildir for all of them. program.go finds installed
// programs. The other files have one server each.
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

// TB is the part of testing.TB that a server needs, so that a program that is no test can
// implement it. Fatal, Fatalf and Skipf must not return.
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
	// Addr is the address without TLS, which the server offers there. Logins need
	// TLS with Postfix only.
	Addr string
	// TLSAddr is the address with implicit TLS (RFC 8314 §3).
	TLSAddr string
	// CAFile is a PEM file with the certificate that clients must trust. It is valid
	// for localhost and 127.0.0.1.
	CAFile string

	tb       TB
	dir      string
	roots    *x509.CertPool
	run      func() error // starts the process on Addr and TLSAddr
	kill     func()
	uid, gid int // the owner of the maildrops
	messages int // added so far, to name their files
	addUser  func(user, pass string) error
	// addFields adds the header fields that the server would add to a stored message.
	addFields func(stored []byte) []byte
}

// TLSConfig returns a configuration for clients that trusts only this server, by the name
// localhost.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: "localhost"}
}

// AddUser adds a user with an empty maildrop. The user's name has the form name@domain.
// The server may be running.
func (s *Server) AddUser(user, pass string) {
	s.tb.Helper()
	if err := s.makeMaildir(user); err != nil {
		s.tb.Fatal(err)
	}
	if err := s.addUser(user, pass); err != nil {
		s.tb.Fatal(err)
	}
}

// newServer returns a server that is not running, with its directory and certificate. The
// directory is created in parent; "" means the default for temporary files. It is not
// tb.TempDir, since the paths of UNIX sockets must be short, and since processes of other
// users must have access.
func newServer(tb TB, parent string) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp(parent, "mail-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("cannot remove the server's directory: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	s := &Server{
		tb:        tb,
		dir:       dir,
		roots:     x509.NewCertPool(),
		kill:      func() {},
		uid:       os.Getuid(),
		gid:       os.Getgid(),
		addFields: func(stored []byte) []byte { return stored },
	}
	s.CAFile = s.file("cert.pem")
	if s.uid == 0 {
		s.uid, s.gid = nobody, nobody // Dovecot refuses to deliver to root
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

// file returns the path of a file in the server's directory.
func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// write creates a file with that mode whatever the umask is, since processes of other
// users may have to read it.
func (s *Server) write(name, text string, mode os.FileMode) {
	s.tb.Helper()
	if err := errors.Join(os.WriteFile(s.file(name), []byte(text), mode), os.Chmod(s.file(name), mode)); err != nil {
		s.tb.Fatal(err)
	}
}

// nobody is the user and group id that owns the maildrops if the test runs as root.
const nobody = 65534

// appendLine adds a line to a password file, and creates the file if necessary.
func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
