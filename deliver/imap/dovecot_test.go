package imap_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dovecot is a Dovecot with one account, on the loopback interface.
type dovecot struct {
	t       *testing.T
	dir     string
	program string
	addr    string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// startDovecot starts a Dovecot 2.3 until the test ends. more is added to its
// configuration. Without one the test is skipped, or fails where servers are
// required.
func startDovecot(t *testing.T, more string) *dovecot {
	t.Helper()
	program := findDovecot(t)
	// t.TempDir is too long for the sockets in it.
	dir, err := os.MkdirTemp("", "imap-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dovecot{t: t, dir: dir, program: program, addr: l.Addr().String()}
	l.Close()
	_, port, _ := net.SplitHostPort(d.addr)
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := me.Uid, me.Gid
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	own := ""
	if me.Uid == "0" {
		uid, gid = "65534", "65534" // Dovecot gives root no mail
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(home, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	} else {
		group, err := osuser.LookupGroupId(gid)
		if err != nil {
			t.Fatal(err)
		}
		own = strings.NewReplacer("USER", me.Username, "GROUP", group.Name).Replace(unprivileged)
	}
	config := strings.NewReplacer("DIR", dir, "PORT", port, "GREETING", filepath.Base(dir)).Replace(dovecotConfig) + own + more
	d.write("users", fmt.Sprintf("%s:{PLAIN.b64}%s:%s:%s::%s\n", user, base64.StdEncoding.EncodeToString([]byte(pass)), uid, gid, home))
	d.write("dovecot.conf", config)
	d.start()
	t.Cleanup(func() {
		d.stop(syscall.SIGTERM)
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("Dovecot's log ends with:\n%s", log[max(0, len(log)-4000):])
		}
	})
	return d
}

func findDovecot(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dovecot")
	if err != nil {
		program = "/usr/sbin/dovecot"
	}
	version, err := exec.Command(program, "--version").Output()
	_, imapd := os.Stat("/usr/lib/dovecot/imap")
	if err == nil && imapd == nil && strings.HasPrefix(string(version), "2.3.") {
		return program
	}
	const missing = "Dovecot 2.3 with IMAP (Debian: dovecot-imapd) is missing; run .ci/deps"
	if os.Getenv("MAILHAUL_REQUIRE_SERVERS") == "1" || os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip("NOT TESTED: " + missing)
	return ""
}

func (d *dovecot) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// start starts the server and waits for its greeting.
func (d *dovecot) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(d.program, "-F", "-c", filepath.Join(d.dir, "dovecot.conf"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) { _ = cmd.Wait(); close(exited) }(d.cmd, d.exited)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
		if err == nil {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			if strings.HasPrefix(line, "* OK") && strings.Contains(line, filepath.Base(d.dir)) {
				return
			}
		}
		select {
		case <-d.exited:
			text, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			d.t.Fatalf("Dovecot ended:\n%s", text)
		case <-ctx.Done():
			d.t.Fatalf("Dovecot does not greet: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends the server with all its processes: SIGKILL leaves it no time to
// put anything in order.
func (d *dovecot) stop(signal syscall.Signal) {
	_ = syscall.Kill(-d.cmd.Process.Pid, signal) // they may have ended
	<-d.exited
}

const dovecotConfig = `
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
instance_name = GREETING
protocols = imap
listen = 127.0.0.1
login_greeting = GREETING
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = 0
mail_location = maildir:~/Mail
mail_max_userip_connections = 1000
first_valid_uid = 1
shutdown_clients = yes
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
service imap-login {
  inet_listener imap {
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
}
`

// unprivileged lets every process of Dovecot be the user that runs the test.
const unprivileged = `
default_internal_user = USER
default_internal_group = GROUP
default_login_user = USER
service imap-login {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
`
