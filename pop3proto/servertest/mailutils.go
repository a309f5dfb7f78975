package servertest

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cacheDir is evaluated here, before a test can change HOME.
var cacheDir, _ = os.UserCacheDir()

// Mailutils starts the POP3 server of GNU Mailutils. Its Debian package conflicts with
// Dovecot's, so .ci/deps unpacks it into the user's cache directory. If it is not there,
// the test ends as in Program. It needs root, so the test is skipped for other users.
//
// The server stores a message's unique-id in an X-UIDL field, which it adds to messages
// that have none. AddMessages adds the field first, so that it returns what a client
// receives.
func Mailutils(tb testing.TB) *Server {
	tb.Helper()
	program := Program(tb, filepath.Join(cacheDir, "mailhaul-test", "mailutils-pop3d", "usr", "sbin", "pop3d"))
	if os.Getuid() != 0 {
		tb.Skip("NOT TESTED: GNU Mailutils pop3d starts for root only")
	}
	s := newServer(tb, "")
	s.addFields = addUIDLField
	for _, sub := range []string{"passwd", "locks"} {
		if err := os.Mkdir(s.file(sub), 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.chown(s.file("locks")); err != nil {
		tb.Fatal(err)
	}
	s.addUser = s.addVirtualUser
	s.start("POP3 Ready", func(plain, implicit int) ([]string, error) {
		s.write("pop3d.conf", strings.NewReplacer(
			"DIR", s.dir,
			"PLAIN_PORT", fmt.Sprint(plain),
			"TLS_PORT", fmt.Sprint(implicit),
		).Replace(mailutilsConfig), 0o600)
		return []string{program, "--config-file=" + s.file("pop3d.conf")}, nil
	})
	return s
}

// addVirtualUser adds a user to the password file of the domain.
func (s *Server) addVirtualUser(user, pass string) error {
	name, domain, ok := strings.Cut(user, "@")
	if !ok {
		return fmt.Errorf("user %q: GNU Mailutils needs the form name@domain", user)
	}
	hash := exec.Command("openssl", "passwd", "-6", "-stdin")
	hash.Stdin = strings.NewReader(pass + "\n")
	out, err := hash.Output()
	if err != nil {
		return fmt.Errorf("openssl passwd: %w", err)
	}
	return appendLine(s.file("passwd/"+domain),
		fmt.Sprintf("%s:%s:%d:%d::%s:/bin/false\n", name, bytes.TrimSpace(out), s.uid, s.gid, s.home(user)))
}

// addUIDLField adds an X-UIDL field to a message that has none.
func addUIDLField(stored []byte) []byte {
	header, _, _ := bytes.Cut(stored, []byte("\n\n"))
	if bytes.Contains(bytes.ToLower(append([]byte("\n"), header...)), []byte("\nx-uidl:")) {
		return stored
	}
	return append(fmt.Appendf(nil, "X-UIDL: %x\n", md5.Sum(stored)), stored...)
}

const mailutilsConfig = `
mode daemon;
foreground yes;
max-children 64;
logging { syslog no; };
tcp-wrappers { enable no; };
auth {
  authentication clear;
  authentication generic;
  authorization clear;
  authorization virtdomain;
};
virtdomain { passwd-dir DIR/passwd; };
mandatory-locking { enable yes; lock-directory DIR/locks; };
tls-file-checks { key-file none; cert-file none; };
tls {
  ssl-certificate-file DIR/cert.pem;
  ssl-key-file DIR/key.pem;
};
server 127.0.0.1:PLAIN_PORT { tls-mode ondemand; backlog 64; };
server 127.0.0.1:TLS_PORT { tls-mode connection; backlog 64; };
`
