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

// traceFlag returns the option --trace of fetch, check and daemon.
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

// openTrace opens the file at path for appending, readable by its owner only: a trace
// has no secrets, but tells who gets which mail. For "" it returns a nil trace.
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

// close closes the file. An error of the trace fails no poll: it is only printed.
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

// traceAccounts makes the accounts write their dialogues to the trace.
func (t *trace) traceAccounts(accounts ...*fetch.Account) {
	if t == nil {
		return
	}
	for _, a := range accounts {
		a.Server.Trace = tracer{t, a.Name}
	}
}

// tracer traces the dialogue of one account. It is a pop3proto.Tracer.
type tracer struct {
	*trace
	account string
}

// Trace writes a line of the dialogue. It flushes what the client says, so that the file
// shows the command at which a server hangs.
func (t tracer) Trace(dir pop3proto.Direction, line string) {
	t.writeLine(t.account, dir.String(), line, dir == pop3proto.FromClient)
}

// observe writes the events of polls, which the dialogue does not show.
func (t *trace) observe(e fetch.Event) {
	if t == nil {
		return
	}
	switch e := e.(type) {
	case fetch.Started:
		t.writeLine(e.Account, "*", version(), false)
	case fetch.Connected:
		t.writeLine(e.Account, "*", "connected to "+e.Addr+", "+describeHandshake(e.State), false)
	case fetch.Finished:
		t.writeEnd(e.Account, e.Err)
	default:
		if account, text := describeEvent(e); text != "" {
			t.writeLine(account, "*", text, false)
		}
	}
}

// writeEnd writes how a poll or a check ended.
func (t *trace) writeEnd(account string, err error) {
	if t == nil {
		return
	}
	text := "ended well"
	if err != nil {
		text = "ended: " + err.Error()
	}
	t.writeLine(account, "*", text, true)
}

// describeHandshake describes a TLS connection and the server's certificates.
func describeHandshake(cs *tls.ConnectionState) string {
	if cs == nil {
		return describeTLS(cs)
	}
	text := describeTLS(cs) + ", " + tls.CipherSuiteName(cs.CipherSuite)
	for _, cert := range cs.PeerCertificates {
		text += fmt.Sprintf(", certificate %q of %q until %s, SHA-256 %x",
			cert.Subject, cert.Issuer, cert.NotAfter.UTC().Format(time.RFC3339), sha256.Sum256(cert.Raw))
	}
	return text
}

// writeLine writes a line: the time, the account, who says it, and what. who is C, S or
// * for an event.
func (t *trace) writeLine(account, who, text string, flush bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.buf, "%s %s %s: %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), account, who, quoteUnprintable(text))
	if flush {
		t.flush()
	}
}

// quoteUnprintable quotes text that holds control or other unprintable characters.
func quoteUnprintable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '\ufffd' }) {
		return s
	}
	return strconv.Quote(s)
}
