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

// mainWithPanic is mailhaul with a goroutine that panics at SIGUSR1.
func mainWithPanic() {
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	go func() { <-usr1; panic("provoked") }()
	main()
}

// encodings returns a secret as servers may repeat it: as it is, encoded, and in halves.
func encodings(secret string) []string {
	b := []byte(secret)
	half := len(secret) / 2
	return []string{
		secret, base64.StdEncoding.EncodeToString(b), base64.StdEncoding.EncodeToString([]byte("\x00ada\x00" + secret)),
		hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), url.QueryEscape(secret), secret[:half], secret[half:],
	}
}

// echo returns a text with secrets in all encodings.
func echo(secrets ...string) string {
	var said []string
	for _, s := range secrets {
		said = append(said, encodings(s)...)
	}
	return strings.Join(said, " ; ")
}

// forbiddenTexts returns the texts that must be found nowhere.
func forbiddenTexts(secrets ...string) []string {
	var all []string
	for _, s := range secrets {
		all = append(all, encodings(s)...)
		half := len(s) / 2
		for _, piece := range []string{s[:half], s[half:]} {
			all = append(all, base64.RawStdEncoding.EncodeToString([]byte(piece))[:8], hex.EncodeToString([]byte(piece)))
		}
	}
	return all
}

// The secrets of TestNoSecretAnywhere.
const (
	secretPassword = `Gr33n+"Horse"/Battery-9`
	secretToken    = "ya29.A0ARrdaM-not_a_real-Token/1234567890"
)

// No secret is in anything that mailhaul prints, writes to a file, or passes to a program,
// even if servers repeat it.
func TestNoSecretAnywhere(t *testing.T) {
	provider := oauthtest.New(oauthtest.Options{Interval: time.Second})
	provider.Start()
	t.Cleanup(provider.Close)
	pop, reached := startRepeatingPOP3(t)
	s := &secretRun{t: t, dir: t.TempDir(), provider: provider}
	s.configure(pop)

	s.run("login", "--device", "grant")
	s.run("fetch", "-v", "grant")
	if !strings.Contains(s.output.String(), `as "gone": server refused AUTH: "***`) {
		t.Errorf("the token of a grant was not sent: %s", &s.output)
	}
	for _, how := range []string{"fetch", "fetch -v", "fetch -q", "fetch --log-format json", "fetch -v --log-format json", "fetch --trace trace -n", "check", "status", "status --json"} {
		// The provider repeats what it is sent.
		provider.Next(func(w http.ResponseWriter, r *http.Request) bool {
			said := echo(r.FormValue("refresh_token"), r.FormValue("client_secret"))
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": r.FormValue("refresh_token"), "error_description": said})
			return true
		})
		s.run(append(strings.Fields(how), s.accounts...)...)
	}
	for _, want := range []string{"***", "logged in as good by scram-sha-256", "grant"} {
		if !strings.Contains(s.output.String(), want) {
			t.Errorf("there is no %q in all that was said", want)
		}
	}
	s.crash(reached)
	s.search()
}

// startRepeatingPOP3 starts a server that repeats secrets in all encodings. Its users are
//
//	bad    refused with the secret in the reply
//	good   let in, and then told the password with each reply
//	rude   told the secret in the middle of the exchange
//	gone   logs in by a token of the provider, which is repeated
//	stuck  never answered; reached receives when the password has come
//
// Those with the prefix token- log in by a token.
func startRepeatingPOP3(t *testing.T) (pop *pop3test.Server, reached <-chan struct{}) {
	t.Helper()
	pop = pop3test.New(pop3test.Options{Behaviour: pop3test.Behaviour{
		Timestamp:  "<1896.697170952@dbc.mtview.ca.us>",
		Mechanisms: []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"},
	}})
	for prefix, secret := range map[string]string{"": secretPassword, "token-": secretToken} {
		said := echo(secret)
		pop.Account(prefix+"bad", secret).Order(pop3test.On(pop3test.Login, func(x *pop3test.Exchange) {
			x.Reply = strings.NewReader("-ERR [" + base64.RawURLEncoding.EncodeToString([]byte(secret)) + "] " + said + "\r\n")
		}))
		complaint, err := json.Marshal(map[string]string{"status": said, "scope": said})
		if err != nil {
			t.Fatal(err)
		}
		// The server has another token than the client, so that it complains.
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
	said := echo(secretPassword)
	good := pop.Account("good", secretPassword)
	good.Add("1", []byte("Subject: one\n\n"))
	good.Add("2", []byte("Subject: two\n\n"))
	good.Order(
		pop3test.Replace("CAPA", "+OK\r\nTOP\r\nUIDL\r\nIMPLEMENTATION "+said+"\r\nX-ECHO "+said+"\r\n.\r\n"),
		pop3test.Replace("RETR", "-ERR "+said+"\r\n").UID("2"), pop3test.Replace("QUIT", "-ERR "+said+"\r\n"),
	)
	came := make(chan struct{}, 1)
	pop.Account("stuck", secretPassword).Order(pop3test.On("PASS", func(x *pop3test.Exchange) {
		came <- struct{}{}
		x.Wait(make(chan struct{}))
	}))
	if err := pop.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pop.Close() })
	return pop, came
}

// secretRun runs mailhaul with a configuration in dir, and keeps all output.
type secretRun struct {
	t        *testing.T
	dir      string
	provider *oauthtest.Server
	accounts []string // all but stuck
	output   bytes.Buffer
}

// file returns the path of a file in dir.
func (s *secretRun) file(name string) string { return filepath.Join(s.dir, name) }

func (s *secretRun) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes a configuration with every kind of login and of sink. The programs in
// it write to the file children what anybody can see of them, and of mailhaul.
func (s *secretRun) configure(pop *pop3test.Server) {
	s.t.Helper()
	said := echo(secretPassword)
	smtp := lineServer(s.t, "220 hello", map[string]string{
		"EHLO": "250-hello\r\n250 AUTH PLAIN", "AUTH": "535 5.7.8 " + said, "QUIT": "221 " + said,
	})
	imap := lineServer(s.t, "* OK hello", map[string]string{
		"CAPABILITY":   "* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n$ OK",
		"AUTHENTICATE": "$ NO [X-" + hex.EncodeToString([]byte(secretPassword)) + "] " + said,
	})
	s.write("password", secretPassword+"\n")
	s.write("token", secretToken+"\n")
	spy := func(then string) string {
		return fmt.Sprintf("[sh, -c, 'cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline >>\"%s\"; %s']", s.file("children"), then)
	}
	var accounts strings.Builder
	for _, user := range []string{"bad", "rude"} {
		for _, auth := range []string{"user", "apop", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer"} {
			user, with := user, "password_command: "+spy(`cat "`+s.file("password")+`"`)
			if strings.Contains(auth, "auth") {
				user, with = "token-"+user, "token_command: "+spy(`cat "`+s.file("token")+`"`)
			}
			fmt.Fprintf(&accounts, "  %s-%s: { user: %s, auth: %s, %s }\n", user, auth, user, auth, with)
			s.accounts = append(s.accounts, user+"-"+auth)
		}
	}
	s.accounts = append(s.accounts, "good", "program", "to-smtp", "to-imap", "noisy", "grant")
	s.write("config.yaml", fmt.Sprintf(`
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
%s`, s.provider.URL, s.provider.Secret(), spy("cat >/dev/null"), smtp, imap, pop.Addr(), spy("true"), spy("true"), s.file("password"), s.file("password"), &accounts))
}

// start starts the program name of the test binary, with its output to out.
func (s *secretRun) start(out *bytes.Buffer, name string, args ...string) *exec.Cmd {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), self)
	cmd.Args = append([]string{name, args[0], "--config", s.file("config.yaml")}, args[1:]...)
	cmd.Env = append(os.Environ(), "SECRET="+secretPassword, "GOTRACEBACK=all", "HOME="+s.dir)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, s.dir
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return cmd
}

// run runs mailhaul. Most of the runs fail.
func (s *secretRun) run(args ...string) {
	s.t.Helper()
	fmt.Fprintf(&s.output, "\n$ mailhaul %s\n", strings.Join(args, " "))
	_ = s.start(&s.output, "mailhaul", args...).Wait()
}

// crash has mailhaul panic, and dump its stacks, while it sends a password.
func (s *secretRun) crash(reached <-chan struct{}) {
	s.t.Helper()
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGQUIT} {
		var out bytes.Buffer
		cmd := s.start(&out, "mailhaul-crashing", "fetch", "stuck")
		select {
		case <-reached:
		case <-time.After(testDeadline):
			s.t.Fatalf("the password was not sent: %s", &out)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			s.t.Fatal(err)
		}
		_ = cmd.Wait()
		if !strings.Contains(out.String(), "pop3proto.(*Client)") {
			s.t.Errorf("%v: no dump of the stacks in %s", sig, &out)
		}
		s.output.Write(out.Bytes())
	}
}

// search fails the test if a secret is in the output, or in a file that is not meant to
// hold it.
func (s *secretRun) search() {
	s.t.Helper()
	salted, err := pbkdf2.Key(sha256.New, secretPassword, []byte("pop3testgood"), 4096, sha256.Size)
	if err != nil {
		s.t.Fatal(err)
	}
	forbidden := forbiddenTexts(append(s.provider.Secrets(), secretPassword, secretToken, string(salted))...)
	searchIn := func(where, text string) {
		for _, secret := range forbidden {
			if i := strings.Index(text, secret); i >= 0 {
				s.t.Errorf("%s: %q is in …%s…", where, secret, text[max(0, i-200):min(len(text), i+len(secret)+20)])
				return
			}
		}
	}
	searchIn("said", s.output.String())
	files := 0
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil || !d.Type().IsRegular() || isGrant(path) || name == "password" || name == "token" || name == "config.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		files++
		searchIn(path, string(text))
		return err
	})
	children, childErr := os.ReadFile(s.file("children"))
	if err != nil || childErr != nil || files < 4 || !bytes.Contains(children, []byte("PATH=")) {
		s.t.Errorf("looked into %d files, children %d bytes: %v, %v", files, len(children), err, childErr)
	}
}

// lineServer answers each command by its verb. "$" in an answer stands for the tag of an
// IMAP command.
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
