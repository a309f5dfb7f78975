package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// traceFlag is the option of every command that talks to POP3 servers.
func traceFlag() cli.Flag {
	return &cli.StringFlag{Name: "trace", Usage: "append the dialogue with the servers to `FILE`, without passwords and messages"}
}

// trace writes the dialogues of all accounts into one file. A nil trace writes
// nothing.
type trace struct {
	mu   sync.Mutex
	file *os.File
	buf  *bufio.Writer
	err  error // of the first write that failed
}

// openTrace opens the file at path to append to it, for its owner's eyes only;
// "" is no trace. What is in it holds no secret, but it does tell who has
// which mail.
func openTrace(path string) (*trace, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, usagef("name a file that can be written", "--trace: %v", err)
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		err = f.Chmod(0o600)
		if err != nil {
			f.Close()
			return nil, usagef("name a file of your own", "--trace: %v", err)
		}
	}
	return &trace{file: f, buf: bufio.NewWriter(f)}, nil
}

// close closes the file. Trouble with it is none of the polls', so it is only
// said.
func (t *trace) close(std stdio) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
	if err := t.file.Close(); t.err == nil {
		t.err = err
	}
	if t.err != nil {
		fmt.Fprintf(std.err, "mailhaul: --trace: %v\n", t.err)
	}
}

func (t *trace) flush() {
	if err := t.buf.Flush(); t.err == nil {
		t.err = err
	}
}

// follow has an account's dialogue traced.
func (t *trace) follow(accounts ...*fetch.Account) {
	if t == nil {
		return
	}
	for _, a := range accounts {
		a.Server.Trace = tracer{t, a.Name}
	}
}

// tracer traces one account.
type tracer struct {
	*trace
	account string
}

// Trace writes a line of the dialogue. What the client says ends the wait for
// more: when a server hangs, the file shows at what.
func (t tracer) Trace(dir pop3proto.Direction, line string) {
	t.line(t.account, dir.String(), line, dir == pop3proto.FromClient)
}

// observe writes what happens around the dialogue.
func (t *trace) observe(e fetch.Event) {
	if t == nil {
		return
	}
	switch e := e.(type) {
	case fetch.Started:
		t.line(e.Account, "*", version(), false)
	case fetch.Connected:
		t.line(e.Account, "*", "connected to "+e.Addr+", "+handshake(e.State), false)
	case fetch.Finished:
		t.ended(e.Account, e.Err)
	default:
		if account, text := step(e); text != "" {
			t.line(account, "*", text, false)
		}
	}
}

// ended writes how a poll or a check ended.
func (t *trace) ended(account string, err error) {
	if t == nil {
		return
	}
	text := "ended well"
	if err != nil {
		text = "ended: " + err.Error()
	}
	t.line(account, "*", text, true)
}

// handshake says what TLS was agreed on, and with whom.
func handshake(cs *tls.ConnectionState) string {
	if cs == nil {
		return secured(cs)
	}
	text := secured(cs) + ", " + tls.CipherSuiteName(cs.CipherSuite)
	for _, cert := range cs.PeerCertificates {
		text += fmt.Sprintf(", certificate %q of %q until %s, SHA-256 %x",
			cert.Subject, cert.Issuer, cert.NotAfter.UTC().Format(time.RFC3339), sha256.Sum256(cert.Raw))
	}
	return text
}

// line writes a line: time, account, who says it, what. Accounts of several
// polls at once take turns.
func (t *trace) line(account, who, text string, flush bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.buf, "%s %s %s: %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), account, who, visible(text))
	if flush {
		t.flush()
	}
}

// visible quotes text that holds what a terminal would not show, or obey.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '\ufffd' }) {
		return s
	}
	return strconv.Quote(s)
}
