package main

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
	"github.com/mailhaul/mailhaul/fetch/discover"
	"github.com/mailhaul/mailhaul/fetch/discover/discovertest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// mailhaulWithDNS is mailhaul with an init that asks the name server at $TEST_DNS.
func mailhaulWithDNS() {
	std := stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	std.finder = discover.Finder{Resolver: discovertest.Resolver(os.Getenv("TEST_DNS"))}
	os.Exit(run(context.Background(), os.Args, std))
}

// newcomer is a home folder without a configuration, and the server of its owner.
type newcomer struct {
	t    *testing.T
	home string
	ca   string // a file
	pop  *pop3test.Server
	dns  *discovertest.DNS
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	cert, ca, err := pop3test.Certificate(pop3test.CertOptions{Hosts: []string{"localhost", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	n := &newcomer{t: t, home: t.TempDir(), dns: discovertest.New(t)}
	n.pop = pop3test.New(pop3test.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	n.pop.Account("ada@example.org", password).Add("1", []byte("Subject: one\n\nHello.\n"))
	if err := n.pop.StartTLS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.pop.Close() })
	n.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(n.ca, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// command returns a program that is run at the newcomer's home.
func (n *newcomer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = n.home
	cmd.Env = []string{
		"HOME=" + n.home, "XDG_CONFIG_HOME=", "XDG_STATE_HOME=", "MAILHAUL_CONFIG=",
		"SSL_CERT_FILE=" + n.ca, "TEST_DNS=" + n.dns.Addr,
	}
	return cmd
}

// start runs mailhaul init in a terminal that is wide enough for every path.
func (n *newcomer) start(args ...string) *ttytest.Terminal {
	return ttytest.Start(n.t, n.command("mailhaul-dns", append([]string{"init"}, args...)...), 400, 60)
}

// expectNothingWritten fails the test if there is a file in the home folder.
func (n *newcomer) expectNothingWritten() {
	n.t.Helper()
	if entries, err := os.ReadDir(n.home); err != nil || len(entries) > 0 {
		n.t.Errorf("there are %v, %v", entries, err)
	}
}

func (n *newcomer) port() int {
	_, port, _ := net.SplitHostPort(n.pop.Addr())
	p, _ := strconv.Atoi(port)
	return p
}

// TestInit goes all the way from a mail address to a mail on the disk.
func TestInit(t *testing.T) {
	n := newNewcomer(t)
	n.dns.SRV("pop3s", "example.org", "localhost.", n.port(), 0)
	term := n.start()
	term.Await("Your mail address: ")
	term.Type("ada\r")
	term.Await(`"ada" is not a mail address`)
	term.Type("ada@example.org\r")
	term.Await("found localhost:" + strconv.Itoa(n.port()) + " (the domain says so)")
	term.Await("Is localhost where you have your mail? (y/n) [n]:")
	term.Type("y\r")
	term.Await("User name [ada@example.org]:")
	term.Type("\r")
	term.Await("Number [1]:")
	term.Type("\r")
	term.Await("Password (not shown):")
	term.Type("wrong\r")
	term.Await("What now?")
	term.Type("1\r")
	term.Await("POP3 server, host or host:port [localhost:" + strconv.Itoa(n.port()) + "]:")
	term.Type("\r")
	term.Await("How is the connection protected?")
	term.Type("\r\r\r")
	term.AwaitFunc("a second question for the password", func(screen string) bool {
		return strings.Count(screen, "Password (not shown):") == 2
	})
	term.Type(password + "\r")
	term.Await("logged in as ada@example.org")
	term.Await("Where does the mail go?")
	term.Type("\r")
	term.Await("Folder [~/Maildir]:")
	term.Type("\r")
	term.Await("sink home: Maildir ~/Maildir (will be made)")
	term.Await("forever [14d]:")
	term.Type("14\r")
	term.Await(`"14" has no unit`)
	term.Type("false\r")
	term.Await("mailhaul fetch --dry-run")
	if code := term.Exit(); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, term.History())
	}
	if strings.Contains(term.Output(), password) || strings.Contains(term.Output(), "wrong") {
		t.Error("the password was shown")
	}
	dir := filepath.Join(n.home, ".config/mailhaul")
	for name, mode := range map[string]os.FileMode{"config.yaml": 0o600, "example.password": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	out, err := n.command("mailhaul", "fetch").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "example: 1 new message") {
		t.Errorf("fetch: %v\n%s", err, out)
	}
}

// If no server is found for the address, init asks for one. Wrong answers are explained
// and asked again.
func TestInitAsksForServer(t *testing.T) {
	n := newNewcomer(t)
	term := n.start("ada@example.org")
	term.Await("none was found:")
	term.Await("mail.example.org:995: ")
	term.Await("POP3 server, host or host:port:")
	term.Type("http://x\r")
	term.Await("is a URL")
	term.Type(n.pop.Addr() + "\r")
	term.Await("User name [ada@example.org]:")
	term.Type("\r")
	term.Await("Number [1]:")
	term.Type("2\r")
	term.Await("Command [pass show mail/example]:")
	term.Type("echo " + password + "\r")
	term.Await("logged in as ada@example.org")
	term.Await("Where does the mail go?")
	term.Type("9\r")
	term.Await("write a number from 1 to 5")
	term.Type("2\r")
	term.Await("File [~/mbox]:") // whose folder is always there
	term.Type("none/inbox\r")
	term.Await("no such file or directory") // which is not made; so it is asked again
	term.Type("3\r")
	term.Await("Program and its arguments [maildrop]:")
	term.Type("sh -c 'cat > out'\r")
	term.Await("no shell reads this")
	term.Type("missing -d me\r")
	term.Await("find the program")
	term.Type("2\rinbox\r")
	term.Await("sink home: mbox ~/inbox (will be made)")
	term.Type("\r")
	term.Await("mailhaul fetch --dry-run")
	if code := term.Exit(); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, term.History())
	}
}

// If the server does not speak the TLS that its port suggests, init asks which it is.
func TestInitAsksForTLS(t *testing.T) {
	n := newNewcomer(t)
	n.pop.Close()
	n.pop = pop3test.New(pop3test.Options{})
	n.pop.Account("ada@example.org", password)
	if err := n.pop.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.pop.Close() })
	term := n.start("--server", n.pop.Addr(), "--password-command", "echo "+password, "ada@example.org")
	for _, step := range [][2]string{
		{"User name [ada@example.org]:", "\r"}, {"What now?", "1\r"}, {"POP3 server", "\r"}, {"How is the connection protected?", "3\r\r"},
		{"How does mailhaul get the password?", "2\r"}, {"Command", "echo " + password + "\r"}, {"logged in as ada@example.org", ""},
	} {
		term.Await(step[0])
		term.Type(step[1])
	}
	term.Type("\x04")
	term.Exit()
}

// A configuration whose login failed can be written all the same; init then says what to
// do first.
func TestInitLater(t *testing.T) {
	n := newNewcomer(t)
	term := n.start("--server", n.pop.Addr(), "--password-command", "echo wrong", "--maildir", "Maildir", "--keep", "forever", "ada@example.org")
	for _, step := range [][2]string{{"User name [ada@example.org]:", "\r"}, {"What now?", "2\r"}, {"Next:", ""}, {"mailhaul check", ""}} {
		term.Await(step[0])
		term.Type(step[1])
	}
	if code := term.Exit(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, term.History())
	}
}

// A server that is known from DNS alone is not trusted with the password: init asks, and
// with --yes it fails.
func TestInitForged(t *testing.T) {
	n := newNewcomer(t)
	n.dns.SRV("pop3s", "example.org", "localhost.", n.port(), 0)
	out, err := n.command("mailhaul-dns", "init", "--yes", "--password-command", "false", "ada@example.org").CombinedOutput()
	exit, _ := err.(*exec.ExitError)
	if exit == nil || exit.ExitCode() != exitPerson || !strings.Contains(string(out), "hint: if it is right, say so: --server "+"localhost:"+strconv.Itoa(n.port())) {
		t.Errorf("%v\n%s", err, out)
	}
	term := n.start("ada@example.org")
	term.Await("(y/n) [n]:")
	term.Type("\r")
	term.Await("POP3 server, host or host:port:")
	term.Type("\x04")
	term.Await("error: nothing was written")
	if code := term.Exit(); code != exitRetry {
		t.Errorf("exit code %d", code)
	}
	if n.pop.Sessions() != 2 { // each greeted, for the certificate; nobody logged in
		t.Errorf("%d connections", n.pop.Sessions())
	}
	n.expectNothingWritten()
}

// ^C at any question leaves no file, and a terminal with its echo switched on.
func TestInitInterrupted(t *testing.T) {
	n := newNewcomer(t)
	for _, at := range []string{"User name", "Number", "Password", "Folder", "forever"} {
		script := "stty noflsh; trap : INT; mailhaul-dns init --server " + n.pop.Addr() + " ada@example.org; echo code $?; stty -a"
		term := ttytest.Start(t, n.command("sh", "-c", script), 100, 60)
		for _, step := range [][2]string{
			{"User name", "\r"}, {"Number", "\r"}, {"Password", password + "\r"}, {"Where does", "\r"}, {"Folder", "\r"}, {"forever", "\r"},
		} {
			term.Await(step[0])
			if step[0] == at {
				break
			}
			term.Type(step[1])
		}
		term.Type("\x03")
		term.Await("code 75")
		term.Exit()
		if screen := term.Screen(); !strings.Contains(screen, " echo ") || !strings.Contains(screen, "nothing was written") {
			t.Errorf("^C at %s leaves\n%s", at, screen)
		}
		n.expectNothingWritten()
	}
}

// With --oauth, init asks for the client. It does not overwrite the file of another
// client's secret.
func TestInitOAuth(t *testing.T) {
	n := newNewcomer(t)
	dir := filepath.Join(n.home, ".config/mailhaul")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "google.secret")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--server", n.pop.Addr(), "--oauth", "google", "ada@example.org"}
	term := n.start(args...)
	term.Await("User name")
	term.Type("\r")
	term.Await("Client id:")
	term.Type("1234.apps\r")
	term.Await("there is a file " + secret)
	if code := term.Exit(); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	term = n.start(args...)
	for _, step := range [][2]string{
		{"User name", "\r"}, {"Client id:", "1234.apps\r"}, {"Client secret", "a-client-secret\r"}, {"cannot be tried before mailhaul login example", ""},
		{"Where does", "\r"}, {"Folder", "\r"}, {"forever", "\r"}, {"mailhaul login example", ""},
	} {
		term.Await(step[0])
		if step[1] != "" {
			term.Type(step[1])
		}
	}
	if code := term.Exit(); code != exitOK || strings.Contains(term.Output(), "a-client-secret") {
		t.Errorf("exit code %d\n%s", code, term.History())
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "a-client-secret\n" {
		t.Errorf("the secret is %q, %v", text, err)
	}
}
