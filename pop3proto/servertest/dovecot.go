package servertest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
)

// DovecotOptions configures a Dovecot server.
type DovecotOptions struct {
	// Protocol is pop3, imap or lmtp; empty means pop3.
	Protocol string
	// Mechanisms are the SASL mechanisms, by Dovecot's lower-case names; empty means
	// plain and login. "apop" enables APOP.
	Mechanisms []string
	// Config is appended to the configuration.
	Config string
	// Parent is the directory in which the server's directory is created; empty means
	// the default for temporary files. It must be short, as the path of UNIX sockets.
	Parent string
	// Introspect is the URL where Dovecot checks the access tokens of xoauth2 and
	// oauthbearer (RFC 7662). Empty disables such checks.
	Introspect string
}

// Dovecot starts a Dovecot 2.3. If it is not installed, the test ends as in Program.
func Dovecot(tb TB, o DovecotOptions) *Server {
	tb.Helper()
	program := Program(tb, "dovecot")
	// The configuration of Dovecot 2.4 is different.
	version, err := exec.Command(program, "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), "2.3.") {
		skipMissing(tb, fmt.Sprintf("dovecot 2.3 (%s is version %q)", program, version))
	}
	o.Protocol = cmp.Or(o.Protocol, "pop3")
	Program(tb, "/usr/lib/dovecot/"+o.Protocol)
	if len(o.Mechanisms) == 0 {
		o.Mechanisms = []string{"plain", "login"}
	}
	if module := "/usr/lib/dovecot/modules/auth/libmech_gssapi.so"; slices.Contains(o.Mechanisms, "gssapi") {
		if _, err := os.Stat(module); err != nil {
			skipMissing(tb, module)
		}
	}

	s := newServer(tb, o.Parent)
	s.write("users", "", 0o644)
	s.addUser = func(user, pass string) error {
		// Dovecot notices that the file has changed.
		return appendLine(s.file("users"), fmt.Sprintf("%s:{PLAIN.b64}%s:%d:%d::%s\n",
			user, base64.StdEncoding.EncodeToString([]byte(pass)), s.uid, s.gid, s.home(user)))
	}
	service := o.Protocol
	if service != "lmtp" {
		service += "-login"
	}
	greeting := filepath.Base(s.dir)
	s.start(greeting, func(plain, implicit int) ([]string, error) {
		template := strings.NewReplacer(
			"DIR", s.dir,
			"GREETING", greeting,
			"MECHANISMS", strings.Join(o.Mechanisms, " "),
			"PROTOCOL", o.Protocol,
			"SERVICE", service,
			"PLAIN_PORT", fmt.Sprint(plain),
			"TLS_PORT", fmt.Sprint(implicit),
			"INTROSPECT", o.Introspect,
		)
		text := template.Replace(dovecotConfig) + o.Config
		if o.Introspect != "" {
			s.write("oauth2.conf", template.Replace(dovecotOAuth), 0o644)
			text += template.Replace(dovecotOAuthPassdb)
		}
		if os.Getuid() != 0 {
			unprivileged, err := unprivilegedConfig(service)
			if err != nil {
				return nil, err
			}
			text += unprivileged
		}
		s.write("dovecot.conf", text, 0o600)
		return []string{program, "-F", "-c", s.file("dovecot.conf")}, nil
	})
	return s
}

// Socket returns the path of the UNIX socket on which Dovecot receives mail by LMTP.
func (s *Server) Socket() string { return s.file("run/lmtp") }

const dovecotConfig = `
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = PROTOCOL
listen = 127.0.0.1
login_greeting = GREETING
hostname = localhost
postmaster_address = postmaster@example.org
ssl = yes
ssl_cert = <DIR/cert.pem
ssl_key = <DIR/key.pem
disable_plaintext_auth = no
auth_mechanisms = MECHANISMS
auth_verbose = yes
auth_failure_delay = 0
mail_location = maildir:~/INBOX
mail_max_userip_connections = 1000
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = passwd-file
  args = DIR/users
}
# All tests have one address. A failed login must not delay the logins of other tests.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
# Postfix checks logins here.
service auth {
  unix_listener auth-client {
    mode = 0666
  }
}
service SERVICE {
  inet_listener PROTOCOL {
    port = PLAIN_PORT
  }
  inet_listener PROTOCOLs {
    port = TLS_PORT
    ssl = yes
  }
}
`

const dovecotOAuthPassdb = `
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = DIR/oauth2.conf
}
`

const dovecotOAuth = `
introspection_mode = post
introspection_url = INTROSPECT
username_attribute = username
active_attribute = active
active_value = true
`

// unprivilegedConfig returns the configuration for all processes of Dovecot to run as the
// user of the test. Only root can change the user or the root directory.
func unprivilegedConfig(service string) (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("USER", u.Username, "GROUP", g.Name, "SERVICE", service).Replace(dovecotUnprivileged), nil
}

const dovecotUnprivileged = `
default_internal_user = USER
default_internal_group = GROUP
default_login_user = USER
service SERVICE {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
`
