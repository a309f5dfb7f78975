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

// DovecotOptions says what a Dovecot is to offer.
type DovecotOptions struct {
	// Protocol is pop3, imap or lmtp; empty is pop3.
	Protocol string
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
	program := Program(tb, "dovecot")
	// Dovecot 2.4 speaks another configuration language.
	version, err := exec.Command(program, "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), "2.3.") {
		missing(tb, fmt.Sprintf("dovecot 2.3 (%s is version %q)", program, version))
	}
	o.Protocol = cmp.Or(o.Protocol, "pop3")
	Program(tb, "/usr/lib/dovecot/"+o.Protocol)
	if len(o.Mechanisms) == 0 {
		o.Mechanisms = []string{"plain", "login"}
	}
	if module := "/usr/lib/dovecot/modules/auth/libmech_gssapi.so"; slices.Contains(o.Mechanisms, "gssapi") {
		if _, err := os.Stat(module); err != nil {
			missing(tb, module)
		}
	}

	s := newServer(tb, o.Parent)
	s.write("users", "", 0o644)
	s.addUser = func(user, pass string) error {
		// Dovecot reads the file again when it has changed.
		return appendTo(s.file("users"), fmt.Sprintf("%s:{PLAIN.b64}%s:%d:%d::%s\n",
			user, base64.StdEncoding.EncodeToString([]byte(pass)), s.uid, s.gid, s.home(user)))
	}
	service := o.Protocol
	if service != "lmtp" {
		service += "-login"
	}
	greeting := filepath.Base(s.dir)
	s.start(greeting, func(plain, implicit int) ([]string, error) {
		fill := strings.NewReplacer(
			"DIR", s.dir,
			"GREETING", greeting,
			"MECHANISMS", strings.Join(o.Mechanisms, " "),
			"PROTOCOL", o.Protocol,
			"SERVICE", service,
			"PLAIN_PORT", fmt.Sprint(plain),
			"TLS_PORT", fmt.Sprint(implicit),
			"INTROSPECT", o.Introspect,
		)
		text := fill.Replace(dovecotConfig) + o.Config
		if o.Introspect != "" {
			s.write("oauth2.conf", fill.Replace(dovecotOAuth), 0o644)
			text += fill.Replace(dovecotOAuthPassdb)
		}
		if os.Getuid() != 0 {
			own, err := unprivileged(service)
			if err != nil {
				return nil, err
			}
			text += own
		}
		s.write("dovecot.conf", text, 0o600)
		return []string{program, "-F", "-c", s.file("dovecot.conf")}, nil
	})
	return s
}

// Socket returns the path of the UNIX socket on which a Dovecot takes mail by
// LMTP.
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
# Every test comes from one address, and must not wait for another's failures.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
# Postfix asks here about logins.
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

// unprivileged is the configuration that lets every process of Dovecot be the
// user that runs the test. Only root can change users and roots.
func unprivileged(service string) (string, error) {
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
