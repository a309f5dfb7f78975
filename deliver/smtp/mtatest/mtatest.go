// Package mtatest runs real mail servers for tests of delivery: Dovecot for
// LMTP and Postfix for SMTP. Each is a private instance with its own folder,
// ports and mailboxes on the loopback interface; nothing of the system's own
// mail setup is read or written.
package mtatest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Password is that of every user.
const Password = `s3cret: "x"`

// Server is a mail server that runs until the test ends.
type Server struct {
	// Addr takes mail in the clear and offers STARTTLS.
	Addr string
	// TLSAddr is TLS from the first byte and, with Postfix, wants a login.
	TLSAddr string
	// Socket is the path of Dovecot's UNIX socket.
	Socket string

	tb    testing.TB
	dir   string
	roots *x509.CertPool
	proc  *process
	start func() error
}

// TLSConfig trusts the server, under the name example.com, and nobody else.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: "example.com"}
}

// Kill kills the server and all of its processes at once, as a power cut
// would.
func (s *Server) Kill() {
	s.tb.Helper()
	s.proc.kill()
}

// Restart starts the server again on the same addresses. It tries until what
// was killed has let go of them.
func (s *Server) Restart() {
	s.tb.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		err := s.start()
		if err == nil {
			return
		}
		select {
		case <-retry.C:
		case <-deadline.C:
			s.tb.Fatalf("cannot start the server again: %v\n%s", err, s.log())
		}
	}
}

// Messages waits until a user has a number of messages, and returns all there
// are, in any order, without the fields that the server put before them. It
// fails the test if they do not come.
func (s *Server) Messages(user string, want int) []string {
	s.tb.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		files, err := filepath.Glob(filepath.Join(s.dir, "mail", user, "[cn][ue][rw]", "*"))
		if err != nil {
			s.tb.Fatal(err)
		}
		if len(files) >= want {
			var msgs []string
			for _, file := range files {
				msg, err := os.ReadFile(file)
				if err != nil {
					s.tb.Fatal(err)
				}
				msgs = append(msgs, original(string(msg)))
			}
			return msgs
		}
		select {
		case <-look.C:
		case <-deadline.C:
			s.tb.Fatalf("%s has %d messages, want %d\n%s", user, len(files), want, s.log())
		}
	}
}

// original takes off what a server puts before a message: Return-Path and who
// it is for, then one Received field, folded.
func original(msg string) string {
	for _, name := range []string{"Return-Path: ", "X-Original-To: ", "Delivered-To: "} {
		if line, rest, ok := strings.Cut(msg, "\n"); ok && strings.HasPrefix(line, name) {
			msg = rest
		}
	}
	if !strings.HasPrefix(msg, "Received: ") {
		return msg
	}
	for first := true; first || strings.HasPrefix(msg, "\t") || strings.HasPrefix(msg, " "); first = false {
		_, msg, _ = strings.Cut(msg, "\n")
	}
	return msg
}

// nobody is the user and group that owns the mailboxes.
const nobody = 65534

// newServer makes the folder of a server, with its certificate. The folder is
// not tb.TempDir: its name must be short enough for the sockets in it.
func newServer(tb testing.TB) *Server {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("NOT TESTED: mail servers that deliver for several users start for root only")
	}
	dir, err := os.MkdirTemp("", "mta-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("the server's folder is still in use: %v", err)
		}
	})
	s := &Server{tb: tb, dir: dir}
	s.mkdir("mail", nobody)
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}

	w := httptest.NewTLSServer(nil)
	defer w.Close()
	s.roots = x509.NewCertPool()
	s.roots.AddCert(w.Certificate())
	key, err := x509.MarshalPKCS8PrivateKey(w.TLS.Certificates[0].PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	s.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})))
	s.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	return s
}

// mkdir makes a folder of the server for a user.
func (s *Server) mkdir(name string, uid int) {
	s.tb.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		s.tb.Fatal(err)
	}
	if err := os.Chown(path, uid, -1); err != nil {
		s.tb.Fatal(err)
	}
}

// write writes a file of the server.
func (s *Server) write(name, content string) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

// missing ends a test that needs a server which is not installed. On a
// developer's machine that skips the test; where the servers must be there,
// it fails.
func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("MAILHAUL_REQUIRE_SERVERS") == "1" || os.Getenv("CI") != "" {
		tb.Fatalf("%s is missing; run .ci/deps", what)
	}
	tb.Skipf("NOT TESTED: %s is missing; run .ci/deps to install it", what)
}
