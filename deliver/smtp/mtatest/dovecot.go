package mtatest

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Dovecot starts a Dovecot 2.3 that takes mail by LMTP for some users of
// example.org. Without one the test is skipped, or fails where servers are
// required. It also checks logins for Postfix.
func Dovecot(tb testing.TB, users ...string) *Server {
	tb.Helper()
	if _, err := os.Stat("/usr/lib/dovecot/lmtp"); err != nil {
		missing(tb, "Dovecot's LMTP server (Debian: dovecot-lmtpd)")
	}
	program := "/usr/sbin/dovecot"
	// Dovecot 2.4 speaks another configuration language.
	if version, err := exec.Command(program, "--version").Output(); err != nil || !strings.HasPrefix(string(version), "2.3.") {
		missing(tb, fmt.Sprintf("Dovecot 2.3 (%s is version %q)", program, version))
	}
	s := newServer(tb)
	var passwd strings.Builder
	for _, user := range users {
		fmt.Fprintf(&passwd, "%s@example.org:{PLAIN.b64}%s:%d:%d::%s\n", user,
			base64.StdEncoding.EncodeToString([]byte(Password)), nobody, nobody, filepath.Join(s.dir, "mail", user))
	}
	s.write("users", passwd.String())
	if err := os.Chmod(filepath.Join(s.dir, "users"), 0o644); err != nil {
		tb.Fatal(err)
	}
	s.Socket = filepath.Join(s.dir, "run", "lmtp")
	s.launch(2, func(ports []int) error {
		s.Addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
		s.TLSAddr = fmt.Sprintf("127.0.0.1:%d", ports[1])
		s.write("dovecot.conf", strings.NewReplacer(
			"DIR", s.dir, "PLAIN_PORT", fmt.Sprint(ports[0]), "TLS_PORT", fmt.Sprint(ports[1]),
		).Replace(dovecotConfig))
		return s.run(s.Addr, filepath.Base(s.dir), program, "-F", "-c", filepath.Join(s.dir, "dovecot.conf"))
	})
	return s
}

// auth is the socket on which Dovecot checks logins for Postfix.
func (s *Server) auth() string { return filepath.Join(s.dir, "run", "auth-postfix") }

const dovecotConfig = `
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = lmtp
listen = 127.0.0.1
login_greeting = DIR
hostname = localhost
postmaster_address = postmaster@example.org
ssl = yes
ssl_cert = <DIR/cert.pem
ssl_key = <DIR/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = 0
mail_location = maildir:~/
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = passwd-file
  args = DIR/users
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  unix_listener auth-postfix {
    mode = 0666
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0666
  }
  inet_listener lmtp {
    port = PLAIN_PORT
  }
  inet_listener lmtps {
    port = TLS_PORT
    ssl = yes
  }
}
`
