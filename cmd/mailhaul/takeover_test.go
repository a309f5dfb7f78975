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

// TestTakeover lets another fetcher fetch half of a maildrop and leave it on a real
// server, and then does what import tells a person to do. Each message must be
// delivered exactly once, whichever of the two fetches it.
func TestTakeover(t *testing.T) {
	for _, tt := range []struct {
		fetcher string
		args    []string
		file    string // of the fetcher's configuration
		config  string // with HOST, PORT, CA and PASSWORD
	}{
		{"mpop", []string{"-a"}, ".mpoprc", `
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
`},
		{"getmail", []string{"--new"}, ".getmail/getmailrc", `
[retriever]
type = SimplePOP3SSLRetriever
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
`},
	} {
		t.Run(tt.fetcher, func(t *testing.T) {
			if _, err := exec.LookPath(tt.fetcher); err != nil {
				t.Skipf("NOT TESTED: %s is missing", tt.fetcher)
			}
			server := servertest.Dovecot(t, servertest.DovecotOptions{})
			server.AddUser("ann@example.org", password)
			home := t.TempDir()
			_, port, err := net.SplitHostPort(server.TLSAddr)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer("HOST", "localhost", "PORT", port, "CA", filepath.Join(home, "ca.pem"), "PASSWORD", password).Replace(tt.config)
			ca, err := os.ReadFile(server.CAFile)
			if err != nil {
				t.Fatal(err)
			}
			for _, folder := range []string{"Maildir/cur", "Maildir/new", "Maildir/tmp", filepath.Dir(tt.file)} {
				if err := os.MkdirAll(filepath.Join(home, folder), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{tt.file: text, "ca.pem": string(ca)} {
				if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			command := func(name string, args ...string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), name, args...)
				cmd.Dir = home
				cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "XDG_STATE_HOME=", "MAILHAUL_CONFIG=")
				return cmd
			}
			run := func(cmd *exec.Cmd) string {
				t.Helper()
				said, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%s: %v\n%s", cmd, err, said)
				}
				return string(said)
			}
			shell := func(line string) string {
				t.Helper()
				return run(command("sh", "-c", line))
			}
			sent := 0
			send := func(n int) {
				t.Helper()
				for range n {
					sent++
					server.AddMessages("ann@example.org", fmt.Appendf(nil, "From: bob@example.com\nSubject: message %d\n\nHello.\n", sent))
				}
			}
			// delivered checks that the Maildir holds each message that was sent once.
			delivered := func(after string) {
				t.Helper()
				var want, got []string
				for n := range sent {
					want = append(want, fmt.Sprintf("Subject: message %d", n+1))
				}
				files, err := filepath.Glob(filepath.Join(home, "Maildir", "new", "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					mail, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					for line := range strings.Lines(string(mail)) {
						if strings.HasPrefix(line, "Subject: ") {
							got = append(got, strings.TrimRight(line, "\r\n"))
						}
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("after %s the Maildir has\n%q, want\n%q", after, got, want)
				}
			}

			send(3)
			other := command(tt.fetcher, tt.args...)
			if os.Getuid() == 0 { // getmail delivers nothing as root
				const nobody = 65534
				shell(fmt.Sprintf("chmod 755 .. && chown -R %d:%d .", nobody, nobody))
				other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			run(other)
			delivered(tt.fetcher)
			send(3)
			said := shell("mailhaul import " + tt.fetcher)
			t.Log(said)
			_, steps, ok := strings.Cut(said, "\nNext, once "+tt.fetcher+" is stopped for good:\n")
			if !ok {
				t.Fatalf("import names no next steps:\n%s", said)
			}
			for step := range strings.Lines(steps) {
				step, _, _ = strings.Cut(strings.TrimSpace(step), " # ")
				if strings.Contains(step, " adopt ") {
					step += " --yes" // there is no terminal to ask
				}
				t.Logf("%s\n%s", step, shell(step))
			}
			delivered("the next steps")
			send(2)
			shell("mailhaul fetch")
			delivered("more mail")
			if left := len(server.Messages("ann@example.org")); left != sent {
				t.Errorf("%d messages are left on the server, want all %d", left, sent)
			}
		})
	}
}
