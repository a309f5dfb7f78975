package main

import (
	"bufio"
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// crashing is mailhaul with a goroutine that panics when it is told to.
func crashing() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	go func() { <-told; panic("provoked") }()
	main()
}

// forms is a secret as servers may repeat it: as it is, encoded, and in halves.
func forms(secret string) []string {
	b := []byte(secret)
	half := len(secret) / 2
	return []string{
		secret, base64.StdEncoding.EncodeToString(b), base64.StdEncoding.EncodeToString([]byte("\x00ada\x00" + secret)),
		hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), url.QueryEscape(secret), secret[:half], secret[half:],
	}
}

// echo repeats secrets in all forms.
func echo(secrets ...string) string {
	var said []string
	for _, s := range secrets {
		said = append(said, forms(s)...)
	}
	return strings.Join(said, " ; ")
}

// needles is what must be found nowhere.
func needles(secrets ...string) []string {
	var all []string
	for _, s := range secrets {
		all = append(all, forms(s)...)
		half := len(s) / 2
		for _, piece := range []string{s[:half], s[half:]} {
			all = append(all, base64.RawStdEncoding.EncodeToString([]byte(piece))[:8], hex.EncodeToString([]byte(piece)))
		}
	}
	return all
}

// No secret is in anything that mailhaul says or writes or starts, whatever
// servers make of it.
func TestNoSecretAnywhere(t *testing.T) {
	const password, token = `Gr33n+"Horse"/Battery-9`, "ya29.A0ARrdaM-not_a_real-Token/1234567890"
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	pop := pop3test.New(pop3test.Options{Behaviour: pop3test.Behaviour{
		Timestamp:  "<1896.697170952@dbc.mtview.ca.us>",
		Mechanisms: []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"},
	}})
	said := echo(password)
	// bad is refused, good is let in and then told all of it, rude has it in
	// the middle of the exchange, gone comes with a token of the provider's, and
	// stuck is left to wait.
	for prefix, secret := range map[string]string{"": password, "token-": token} {
		said := echo(secret)
		pop.Account(prefix+"bad", secret).Order(pop3test.On(pop3test.Login, func(x *pop3test.Exchange) {
			x.Reply = strings.NewReader("-ERR [" + base64.RawURLEncoding.EncodeToString([]byte(secret)) + "] " + said + "\r\n")
		}))
		complaint, err := json.Marshal(map[string]string{"status": said, "scope": said})
		if err != nil {
			t.Fatal(err)
		}
		// The token is another's than the server has, so that it complains.
		pop.Account(prefix+"rude", secret+".").Order(pop3test.AlterChallenge(func(c string) string {
			if strings.HasPrefix(c, "r=") || strings.HasPrefix(c, "v=") {
				return "e=" + strings.ReplaceAll(said, ",", "")
			}
			return string(complaint)
		}))
	}
	pop.Order(pop3test.On(pop3test.Response, func(x *pop3test.Exchange) {
		message, _ := base64.StdEncoding.DecodeString(x.Args)
		_, sent, _ := strings.Cut(string(message), "auth=Bearer ")
		x.Reply = strings.NewReader("-ERR " + echo(strings.TrimRight(sent, "\x01")) + "\r\n")
	}).When(func(x *pop3test.Exchange) bool { return strings.HasPrefix(x.Args, "dXNlcj1nb25l") })) // user=gone
	good := pop.Account("good", password)
	good.Add("1", []byte("Subject: one\n\n"))
	good.Add("2", []byte("Subject: two\n\n"))
	good.Order(
		pop3test.Replace("CAPA", "+OK\r\nTOP\r\nUIDL\r\nIMPLEMENTATION "+said+"\r\nX-ECHO "+said+"\r\n.\r\n"),
		pop3test.Replace("RETR", "-ERR "+said+"\r\n").UID("2"), pop3test.Replace("QUIT", "-ERR "+said+"\r\n"),
	)
	reached := make(chan struct{}, 1)
	pop.Account("stuck", password).Order(pop3test.On("PASS", func(x *pop3test.Exchange) {
		reached <- struct{}{}
		x.Wait(make(chan struct{}))
	}))
	if err := pop.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pop.Close() })

	provider := oauthtest.New(oauthtest.Options{Interval: time.Second})
	provider.Start()
	t.Cleanup(provider.Close)
	smtp := lineServer(t, "220 hello", map[string]string{
		"EHLO": "250-hello\r\n250 AUTH PLAIN", "AUTH": "535 5.7.8 " + said, "QUIT": "221 " + said,
	})
	imap := lineServer(t, "* OK hello", map[string]string{
		"CAPABILITY": "* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n$ OK", "AUTHENTICATE": "$ NO [X-" + hex.EncodeToString([]byte(password)) + "] " + said,
	})

	// The programs that are run write down what everybody can see of them, and
	// of us.
	write("password", password+"\n")
	write("token", token+"\n")
	spy := func(then string) string {
		return fmt.Sprintf("[sh, -c, 'cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline >>\"%s\"; %s']", file("children"), then)
	}
	var accounts strings.Builder
	for _, user := range []string{"bad", "rude"} {
		for _, auth := range []string{"user", "apop", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer"} {
			user, with := user, "password_command: "+spy(`cat "`+file("password")+`"`)
			if strings.Contains(auth, "auth") {
				user, with = "token-"+user, "token_command: "+spy(`cat "`+file("token")+`"`)
			}
			fmt.Fprintf(&accounts, "  %s-%s: { user: %s, auth: %s, %s }\n", user, auth, user, auth, with)
		}
	}
	write("config.yaml", fmt.Sprintf(`
state: state
oauth: { sso: { issuer: %q, client_id: client, client_secret: %s } }
sinks:
  home: { maildir: Maildir }
  program: { mda: %s }
  smtp: { smtp: %q, tls: none, to: me@example.com, user: me, password_file: password }
  imap: { imap: %q, tls: none, user: me, password_file: password }
defaults: { server: %q, tls: none, deliver: home }
accounts:
  good: { user: good, password_env: SECRET, keep: forever, preconnect: %s, postpoll: %s }
  program: { user: good, password_env: SECRET, keep: forever, deliver: program }
  to-smtp: { user: good, password_env: SECRET, keep: forever, deliver: smtp }
  to-imap: { user: good, password_env: SECRET, keep: forever, deliver: imap }
  noisy: { user: bad, password_command: 'cat "%s"; cat "%s" >&2; exit 1' }
  grant: { user: gone, oauth: sso, auth: xoauth2 }
  stuck: { user: stuck, password_file: password, auth: user }
%s`, provider.URL, provider.Secret(), spy("cat >/dev/null"), smtp, imap, pop.Addr(), spy("true"), spy("true"), file("password"), file("password"), &accounts))

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(out *bytes.Buffer, name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Args = append([]string{name, args[0], "--config", file("config.yaml")}, args[1:]...)
		cmd.Env = append(os.Environ(), "SECRET="+password, "GOTRACEBACK=all", "HOME="+dir)
		cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var all bytes.Buffer
	run := func(args ...string) {
		fmt.Fprintf(&all, "\n$ mailhaul %s\n", strings.Join(args, " "))
		_ = start(&all, "mailhaul", args...).Wait() // most fail
	}
	var names []string
	for line := range strings.Lines(accounts.String()) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		names = append(names, name)
	}
	names = append(names, "good", "program", "to-smtp", "to-imap", "noisy", "grant")
	run("login", "--device", "grant")
	run("fetch", "-v", "grant")
	if !strings.Contains(all.String(), `as "gone": server refused AUTH: "***`) {
		t.Errorf("the token of a grant was not sent: %s", &all)
	}
	salted, err := pbkdf2.Key(sha256.New, password, []byte("pop3testgood"), 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"fetch", "fetch -v", "fetch -q", "fetch --log-format json", "fetch -v --log-format json", "fetch --trace trace -n", "check", "status", "status --json"} {
		// A provider that repeats what it was sent.
		provider.Next(func(w http.ResponseWriter, r *http.Request) bool {
			said := echo(r.FormValue("refresh_token"), r.FormValue("client_secret"))
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": r.FormValue("refresh_token"), "error_description": said})
			return true
		})
		run(append(strings.Fields(how), names...)...)
	}
	for _, want := range []string{"***", "logged in as good by scram-sha-256", "grant"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("there is no %q in all that was said", want)
		}
	}

	// A crash with a password on its way tells where, and not what.
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGQUIT} {
		var crash bytes.Buffer
		cmd := start(&crash, "mailhaul-crashing", "fetch", "stuck")
		select {
		case <-reached:
		case <-time.After(testDeadline):
			t.Fatalf("the password was not sent: %s", &crash)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if !strings.Contains(crash.String(), "pop3proto.(*Client)") {
			t.Errorf("%v: no dump of the stacks in %s", sig, &crash)
		}
		all.Write(crash.Bytes())
	}

	secrets := append(provider.Secrets(), password, token, string(salted))
	search := func(where, text string) {
		for _, needle := range needles(secrets...) {
			if i := strings.Index(text, needle); i >= 0 {
				t.Errorf("%s: %q is in …%s…", where, needle, text[max(0, i-200):min(len(text), i+len(needle)+20)])
				return
			}
		}
	}
	search("said", all.String())
	looked := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil || !d.Type().IsRegular() || isGrant(path) || name == "password" || name == "token" || name == "config.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		looked++
		search(path, string(text))
		return err
	})
	children, childErr := os.ReadFile(file("children"))
	if err != nil || childErr != nil || looked < 4 || !bytes.Contains(children, []byte("PATH=")) {
		t.Errorf("looked into %d files, children %d bytes: %v, %v", looked, len(children), err, childErr)
	}
}

// lineServer answers each command by its verb, "$" standing for an IMAP tag.
func lineServer(t *testing.T, greeting string, answers map[string]string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		fmt.Fprintf(conn, "%s\r\n", greeting)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			words := strings.Fields(lines.Text())
			answer, tag := "500 what?", ""
			for i, w := range words {
				if a, ok := answers[strings.ToUpper(w)]; ok && i < 2 {
					answer, tag = a, words[0]
					break
				}
			}
			fmt.Fprintf(conn, "%s\r\n", strings.Replace(answer, "$", tag, 1))
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
