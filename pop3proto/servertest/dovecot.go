package servertest

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
)

// DovecotOptions says what a Dovecot is to offer.
type DovecotOptions struct {
	// Mechanisms are the SASL mechanisms, by Dovecot's lower-case names; none
	// stands for plain and login. "apop" adds APOP.
	Mechanisms []string
	// Config is added to the configuration.
	Config string
	// Parent is where the server's folder is made; by default where temporary
	// files go. Its path must be short: there are sockets in it.
	Parent string
	// Introspect, unless empty, is the address where Dovecot asks about the
	// access tokens of xoauth2 and oauthbearer (RFC 7662).
	Introspect string
}

// Dovecot starts a Dovecot 2.3. Without one the test is skipped, or fails
// where servers are required.
func Dovecot(tb TB, o DovecotOptions) *Server {
	tb.Helper()
	program, ok := look("dovecot")
	if !ok {
		missing(tb, "dovecot (Debian: dovecot-pop3d)")
	}
	// Dovecot 2.4 speaks another configuration language.
	version, err := exec.Command(program, "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), "2.3.") {
		missing(tb, fmt.Sprintf("dovecot 2.3 (%s is version %q)", program, version))
	}
	if len(o.Mechanisms) == 0 {
		o.Mechanisms = []string{"plain", "login"}
	}

	if module := "/usr/lib/dovecot/modules/auth/libmech_gssapi.so"; slices.Contains(o.Mechanisms, "gssapi") {
		if _, err := os.Stat(module); err != nil {
			missing(tb, module)
		}
	}

	s := newServer(tb, o.Parent)
	users := filepath.Join(s.dir, "users")
	if err := os.WriteFile(users, nil, 0o644); err != nil {
		tb.Fatal(err)
	}
	s.addUser = func(user, pass string) error {
		// Dovecot reads the file again when it has changed.
		return appendTo(users, fmt.Sprintf("%s:{PLAIN.b64}%s:%d:%d::%s\n",
			user, base64.StdEncoding.EncodeToString([]byte(pass)), s.uid, s.gid, s.home(user)))
	}
	config := filepath.Join(s.dir, "dovecot.conf")
	greeting := filepath.Base(s.dir)
	s.start(greeting, func(plain, implicit int) ([]string, error) {
		text := strings.NewReplacer(
			"DIR", s.dir,
			"GREETING", greeting,
			"MECHANISMS", strings.Join(o.Mechanisms, " "),
			"PLAIN_PORT", fmt.Sprint(plain),
			"TLS_PORT", fmt.Sprint(implicit),
		).Replace(dovecotConfig) + o.Config
		if o.Introspect != "" {
			oauth := filepath.Join(s.dir, "oauth2.conf")
			if err := os.WriteFile(oauth, []byte(strings.ReplaceAll(dovecotOAuth, "URL", o.Introspect)), 0o644); err != nil {
				return nil, err
			}
			text += strings.ReplaceAll(dovecotOAuthPassdb, "FILE", oauth)
		}
		if os.Getuid() != 0 {
			own, err := unprivileged()
			if err != nil {
				return nil, err
			}
			text += own
		}
		return []string{program, "-F", "-c", config}, os.WriteFile(config, []byte(text), 0o600)
	})
	return s
}

const dovecotConfig = `
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = pop3
listen = 127.0.0.1
login_greeting = GREETING
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
# Every test comes from one address, and must not wait for another's failures.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = PLAIN_PORT
  }
  inet_listener pop3s {
    port = TLS_PORT
    ssl = yes
  }
}
`

const dovecotOAuthPassdb = `
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = FILE
}
`

const dovecotOAuth = `
introspection_mode = post
introspection_url = URL
username_attribute = username
active_attribute = active
active_value = true
`

// unprivileged is the configuration that lets every process of Dovecot be the
// user that runs the test. Only root can change users and roots.
func unprivileged() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("USER", u.Username, "GROUP", g.Name).Replace(dovecotUnprivileged), nil
}

const dovecotUnprivileged = `
default_internal_user = USER
default_internal_group = GROUP
default_login_user = USER
service pop3-login {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
`
