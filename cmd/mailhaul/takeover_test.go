package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// TestTakeover has another fetcher fetch half of a maildrop and leave it on a real server,
// and then does what import tells a person to do. Each message must be delivered exactly
// once, by one of the two.
func TestTakeover(t *testing.T) {
	const netrc = "machine localhost login bob@example.org password wrong\n" +
		"machine localhost login ann@example.org password \"PASSWORD\"\n"
	// In config and netrc, switcher.write replaces the words in capitals.
	for _, tt := range []struct {
		name          string
		command       []string
		file          string // the path of the fetcher's configuration
		config, netrc string
	}{
		{"mpop", []string{"mpop", "-a"}, ".mpoprc", `
defaults
tls on
tls_starttls off
tls_trust_file CA
keep on
account ann
host HOST
port PORT
user ann@example.org
password PASSWORD
delivery maildir ~/Maildir
`, ""},
		{"mpop with .netrc", []string{"mpop", "-a"}, ".mpoprc", `
account ann
host HOST
port PORT
user ann@example.org
tls on
tls_starttls off
tls_trust_file CA
keep on
delivery maildir ~/Maildir
`, netrc},
		{"fetchmail with .netrc", []string{"fetchmail", "--silent"}, ".fetchmailrc", `
poll HOST service PORT proto pop3 uidl user ann@example.org is ann here
	ssl sslcertck sslcertfile CA keep
	mda "sh -c 'f=tmp/$$; cd ~/Maildir && cat >$f && mv $f new'"
`, netrc},
		{"getmail", []string{"getmail", "--new"}, ".getmail/getmailrc", `
[retriever]
type = SimplePOP3SSLRetriever
timeout = 5
server = HOST
port = PORT
username = ann@example.org
password = PASSWORD
ca_certs = CA
[destination]
type = Maildir
path = ~/Maildir/
[options]
delete = false
`, ""},
		{"getmail with .netrc", []string{"getmail", "--new"}, ".getmail/getmailrc", `
[retriever]
type = SimplePOP3SSLRetriever
timeout = 5
server = HOST
port = PORT
ca_certs = CA
[destination]
type = Maildir
path = ~/Maildir/
[options]
delete = false
use_netrc = true
`, "default login ann@example.org password PASSWORD\n"},
		{"fdm", []string{"fdm", "-f", ".fdm.conf", "fetch"}, ".fdm.conf", `
set lock-file "FOLDER/lock"
$user = "ann@example.org"
account "ann" pop3s server "HOST" port PORT user $user pass "PASSWORD" new-only cache "FOLDER/seen" keep
action "inbox" maildir "FOLDER/Maildir"
match all action "inbox"
`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fetcher := tt.command[0]
			servertest.Program(t, fetcher)
			var u *switcher
			for u == nil || !u.runOther(tt.command...) {
				u = newSwitcher(t)
				u.write(tt.file, tt.config)
				u.write(".netrc", tt.netrc)
				u.send(3)
			}
			u.expectEachOnce("the other fetcher")
			u.send(3)
			u.runNextSteps(fetcher)
			u.expectEachOnce("the next steps")
			u.send(2)
			u.shell("mailhaul fetch")
			u.expectEachOnce("more mail")
			if left := len(u.server.Messages(switcherUser)); left != u.sent {
				t.Errorf("%d messages are left on the server, want all %d", left, u.sent)
			}
		})
	}
}

// switcher is a person who changes from another fetcher to mailhaul: a home folder, and a
// maildrop on a real server.
type switcher struct {
	t      *testing.T
	home   string
	server *servertest.Server
	sent   int // messages so far
}

const switcherUser = "ann@example.org"

// newSwitcher starts a server with an empty maildrop.
func newSwitcher(t *testing.T) *switcher {
	t.Helper()
	u := &switcher{t: t, home: t.TempDir(), server: servertest.Dovecot(t, servertest.DovecotOptions{})}
	u.server.AddUser(switcherUser, password)
	ca, err := os.ReadFile(u.server.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.caFile(), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(u.home, "Maildir", folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// caFile returns a copy of the server's certificate authority that everybody may read.
func (u *switcher) caFile() string { return filepath.Join(u.home, "ca.pem") }

// write writes a file in the home folder. It replaces words in capitals by what they name:
// HOST, PORT and CA of the server, PASSWORD, and FOLDER, the home folder.
func (u *switcher) write(name, text string) {
	u.t.Helper()
	_, port, err := net.SplitHostPort(u.server.TLSAddr)
	if err != nil {
		u.t.Fatal(err)
	}
	path := filepath.Join(u.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		u.t.Fatal(err)
	}
	text = strings.NewReplacer("HOST", "localhost", "PORT", port, "CA", u.caFile(), "PASSWORD", password, "FOLDER", u.home).Replace(text)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// send adds n messages to the maildrop.
func (u *switcher) send(n int) {
	u.t.Helper()
	for range n {
		u.sent++
		u.server.AddMessages(switcherUser, fmt.Appendf(nil, "From: bob@example.com\nSubject: message %d\n\nHello.\n", u.sent))
	}
}

// command returns a program that runs in the home folder.
func (u *switcher) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(u.t.Context(), name, args...)
	cmd.Dir = u.home
	cmd.Env = append(os.Environ(), "HOME="+u.home, "XDG_CONFIG_HOME=", "XDG_STATE_HOME=", "MAILHAUL_CONFIG=",
		"SSL_CERT_FILE="+u.caFile()) // fdm has no option for it
	return cmd
}

// run runs a command, which has to succeed, and returns its output.
func (u *switcher) run(cmd *exec.Cmd) string {
	u.t.Helper()
	output, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("%s: %v\n%s", cmd, err, output)
	}
	return string(output)
}

// shell runs a command line.
func (u *switcher) shell(line string) string {
	u.t.Helper()
	return u.run(u.command("sh", "-c", line))
}

// runOther runs the other fetcher, and not as root: getmail would deliver nothing. It
// returns false if getmail missed the end of the process in which it delivers, as it
// sometimes does. Then it remembers less than it has delivered.
func (u *switcher) runOther(command ...string) bool {
	u.t.Helper()
	cmd := u.command(command[0], command[1:]...)
	if os.Getuid() == 0 {
		const nobody = 65534
		u.shell(fmt.Sprintf("chmod 755 .. && chown -R %d:%d .", nobody, nobody))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		defer u.shell("chown -R 0:0 .") // fetchmail reads nobody else's fetchmailrc
	}
	output, err := cmd.CombinedOutput()
	if strings.Contains(string(output), "waiting child pid") {
		return false
	}
	if err != nil {
		u.t.Fatalf("%s: %v\n%s", cmd, err, output)
	}
	return true
}

// runNextSteps runs mailhaul import, and then what it tells a person to do.
func (u *switcher) runNextSteps(fetcher string) {
	u.t.Helper()
	output := u.shell("mailhaul import " + fetcher)
	u.t.Log(output)
	_, steps, ok := strings.Cut(output, "\nNext, once "+fetcher+" is stopped for good:\n")
	if !ok {
		u.t.Fatalf("import names no next steps:\n%s", output)
	}
	for step := range strings.Lines(steps) {
		step, _, _ = strings.Cut(strings.TrimSpace(step), " # ")
		if strings.Contains(step, " adopt ") {
			step += " --yes" // there is no terminal to ask
		}
		u.t.Logf("%s\n%s", step, u.shell(step))
	}
}

// expectEachOnce fails the test unless the Maildir holds each message that was sent once.
func (u *switcher) expectEachOnce(after string) {
	u.t.Helper()
	var want, got []string
	for n := range u.sent {
		want = append(want, fmt.Sprintf("Subject: message %d", n+1))
	}
	files, err := filepath.Glob(filepath.Join(u.home, "Maildir", "new", "*"))
	if err != nil {
		u.t.Fatal(err)
	}
	for _, file := range files {
		mail, err := os.ReadFile(file)
		if err != nil {
			u.t.Fatal(err)
		}
		for line := range strings.Lines(string(mail)) {
			if strings.HasPrefix(line, "Subject: ") {
				got = append(got, strings.TrimRight(line, "\r\n"))
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		u.t.Errorf("after %s the Maildir has\n%q, want\n%q", after, got, want)
	}
}
