package servertest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// SizeLimit is Postfix's limit on the size of a message, in octets (RFC 1870).
const SizeLimit = 3 << 20

// Postfix starts a Postfix that receives mail by SMTP for users of example.org. Logins are
// checked by dovecot, and TLSAddr requires one. Mail for unknown users is refused
// permanently, and mail for later@example.org temporarily. Senders whose address begins
// with "stranger" are greylisted: the first attempt for each recipient is refused
// temporarily. If Postfix is not installed, the test ends as in Program. It needs root, so
// the test is skipped for other users.
func Postfix(tb testing.TB, dovecot *Server, users ...string) *Server {
	tb.Helper()
	master := Program(tb, "/usr/lib/postfix/sbin/master")
	if os.Getuid() != 0 {
		tb.Skip("NOT TESTED: Postfix starts for root only")
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		tb.Fatal(err)
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		tb.Fatal(err)
	}
	s := newServer(tb, "")
	mkdir := func(uid int, names ...string) {
		for _, name := range names {
			path := s.file(name)
			if err := errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755), os.Chown(path, uid, -1)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	mkdir(0, "etc", "queue", "queue/pid")
	mkdir(uid, "data")
	for _, sub := range []string{
		"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private", "public",
		"saved", "trace",
	} {
		mkdir(uid, "queue/"+sub)
	}
	var boxes strings.Builder
	for _, user := range users {
		if err := s.makeMaildir(user); err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(&boxes, "%s %s/INBOX/\n", user, user)
	}
	// Postfix reads the configuration as another user.
	s.write("etc/boxes", boxes.String(), 0o644)
	policy := startGreylist(tb)
	name := filepath.Base(s.dir)
	s.start(name, func(plain, implicit int) ([]string, error) {
		template := strings.NewReplacer(
			"DIR", s.dir, "NAME", name, "AUTH", dovecot.file("run/auth-client"), "POLICY", policy,
			"NOBODY", fmt.Sprint(nobody), "SIZE", fmt.Sprint(SizeLimit),
			"PLAIN_PORT", fmt.Sprint(plain), "TLS_PORT", fmt.Sprint(implicit),
		)
		s.write("etc/main.cf", template.Replace(mainConfig), 0o644)
		s.write("etc/master.cf", template.Replace(masterConfig), 0o644)
		return []string{master, "-c", s.file("etc"), "-d"}, nil
	})
	return s
}

// startGreylist starts the policy service for greylisting, whose protocol is in Postfix's
// SMTPD_POLICY_README, and returns its address.
func startGreylist(tb testing.TB) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	seen := make(map[string]bool)
	serve := func(conn net.Conn) {
		defer conn.Close()
		request := make(map[string]string)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), "="); ok {
				request[name] = value
				continue
			}
			key := request["sender"] + " " + request["recipient"]
			mu.Lock()
			action := "dunno"
			if strings.HasPrefix(key, "stranger") && !seen[key] {
				seen[key], action = true, "450 4.7.1 greylisted"
			}
			mu.Unlock()
			if _, err := fmt.Fprintf(conn, "action=%s\n\n", action); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

const mainConfig = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = DIR/log
maillog_file_prefixes = DIR
myhostname = localhost
smtpd_banner = NAME ESMTP
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = DIR/home
virtual_mailbox_maps = texthash:DIR/etc/boxes
virtual_uid_maps = static:NOBODY
virtual_gid_maps = static:NOBODY
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = SIZE
in_flow_delay = 0
# What a killed process did not deliver is delivered soon after the restart.
transport_retry_time = 1s
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
# Do not change messages, except for adding trace fields.
local_header_rewrite_clients =
message_drop_headers =
smtpd_recipient_restrictions =
  check_recipient_access inline:{ { later@example.org = 450 4.2.0 not now } }
  check_policy_service inet:POLICY
  reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = DIR/key.pem DIR/cert.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = AUTH
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
`

const masterConfig = `
127.0.0.1:PLAIN_PORT inet n - n - - smtpd
127.0.0.1:TLS_PORT inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`
