package main

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// testServer is a POP3 server, and a configuration of its accounts.
type testServer struct {
	t      *testing.T
	home   string
	server *pop3test.Server
	// resume has a reply go on that holdHalfway has stopped.
	resume chan struct{}
}

// newTestServer configures accounts of those names, all with the same options.
func newTestServer(t *testing.T, options string, accounts ...string) *testServer {
	t.Helper()
	b := &testServer{t: t, server: pop3test.New(pop3test.Options{}), resume: make(chan struct{})}
	if err := b.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.server.Close() })
	var config strings.Builder
	fmt.Fprintf(&config, "state: state\nparallel: 8\nper_host: 8\nsinks: { home: { maildir: Maildir } }\n")
	fmt.Fprintf(&config, "defaults: { server: %q, tls: none, password_env: PASSWORD%s }\naccounts:\n", b.server.Addr(), options)
	for _, name := range accounts {
		fmt.Fprintf(&config, "  %s: { user: %q }\n", name, name)
		b.server.Account(name, password)
	}
	b.home = filepath.Dir(configFile(t, "%s", &config))
	return b
}

// add puts a message of about that size into a maildrop.
func (b *testServer) add(account string, octets int) {
	m := b.server.Account(account, password)
	text := strings.Repeat(strings.Repeat("x", 78)+"\n", octets/80)
	m.Add(fmt.Sprintf("%s-%d", account, len(m.Messages())), []byte("Subject: test\n\n"+text))
}

// command returns mailhaul with these arguments, and --config.
func (b *testServer) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), "mailhaul", append(args, "--config", filepath.Join(b.home, "config.yaml"))...)
	cmd.Env = []string{"HOME=" + b.home, "PASSWORD=" + password}
	return cmd
}

// holdHalfway has the server send half of the message with that unique-id, and the rest
// after a receive from resume.
func (b *testServer) holdHalfway(uid string) {
	b.server.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		x.Act()
		reply, _ := io.ReadAll(x.Reply)
		half := string(reply[:len(reply)/2])
		x.Reply = io.MultiReader(strings.NewReader(half), &waitingReader{x, b.resume}, strings.NewReader(string(reply[len(half):])))
	}).UID(uid))
}

// waitingReader is an empty reader whose Read waits for a channel.
type waitingReader struct {
	x     *pop3test.Exchange
	until chan struct{}
}

func (w *waitingReader) Read([]byte) (int, error) {
	w.x.Wait(w.until)
	return 0, io.EOF
}
