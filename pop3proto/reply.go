package pop3proto

import (
	"bytes"
	"fmt"
	"strings"
)

// ReplyError is the server's -ERR reply to a command. The session goes on.
type ReplyError struct {
	// Verb is the command in upper case, or "greeting" if the server refused
	// the connection.
	Verb string
	// Code is the response code in upper case and without brackets, or empty if
	// there was none.
	Code ReplyCode
	// Text is the rest of the line, truncated to about 200 bytes. It comes from
	// the server: quote it before printing it to a terminal.
	Text string
}

const maxReplyText = 200

// Error returns one line of text, with control characters escaped.
func (e *ReplyError) Error() string {
	s := "server refused " + e.Verb
	if e.Verb == verbGreeting {
		s = "server refused the connection"
	}
	if e.Code != "" {
		s += fmt.Sprintf(" [%s]", string(e.Code))
	}
	if e.Text != "" {
		s += fmt.Sprintf(": %q", e.Text)
	}
	return s
}

// ReplyCode is an extended response code (RFC 2449 §8).
type ReplyCode string

// The registered response codes.
const (
	CodeInUse      ReplyCode = "IN-USE"      // another session has the maildrop locked (RFC 2449 §8.1.2)
	CodeLoginDelay ReplyCode = "LOGIN-DELAY" // too soon after the last login (RFC 2449 §8.1.1)
	CodeSysTemp    ReplyCode = "SYS/TEMP"    // a temporary problem of the server (RFC 3206 §4)
	CodeSysPerm    ReplyCode = "SYS/PERM"    // a problem of the server that a person must solve (RFC 3206 §4)
	CodeAuth       ReplyCode = "AUTH"        // the credentials are wrong (RFC 3206 §5)
	CodeUTF8       ReplyCode = "UTF8"        // the command would work in UTF8 mode (RFC 6856 §5)
)

func (c ReplyCode) isRegistered() bool {
	switch c {
	case CodeInUse, CodeLoginDelay, CodeSysTemp, CodeSysPerm, CodeAuth, CodeUTF8:
		return true
	}
	return false
}

// cutCode splits the text of a reply into its response code, which may be empty,
// and the rest. A server that does not announce RESP-CODES may begin its text with
// a bracket of its own (RFC 2449 §6.4), so only registered codes count there.
func cutCode(text string, announced bool) (ReplyCode, string) {
	inner, rest, closed := strings.Cut(text, "]")
	inner, opened := strings.CutPrefix(inner, "[")
	if !opened || !closed || inner == "" {
		return "", text
	}
	for i := range len(inner) {
		// RFC 2449 §3: printable ASCII without blanks.
		if inner[i] <= ' ' || inner[i] >= 0x7f {
			return "", text
		}
	}
	code := ReplyCode(strings.ToUpper(inner))
	if !announced && !code.isRegistered() {
		return "", text
	}
	return code, strings.TrimLeft(rest, " \t")
}

// status is the status indicator that begins a reply.
type status byte

const (
	statusNone     status = iota // not a reply
	statusOK                     // +OK
	statusErr                    // -ERR
	statusContinue               // + (RFC 5034 §4)
)

// cutStatus splits a reply line into its status indicator and the text. Some
// servers send the indicator in lower case, or without a blank after it.
func cutStatus(line []byte) (status, []byte) {
	for _, indicator := range []struct {
		status status
		text   string
	}{{statusOK, "+OK"}, {statusErr, "-ERR"}, {statusContinue, "+"}} {
		n := len(indicator.text)
		if len(line) < n || !strings.EqualFold(string(line[:n]), indicator.text) {
			continue
		}
		rest := line[n:]
		if len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' {
			return indicator.status, bytes.TrimLeft(rest, " \t")
		}
		if indicator.status != statusContinue && !isAlnum(rest[0]) {
			return indicator.status, rest
		}
	}
	return statusNone, line
}

func isAlnum(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z'
}

// readReply reads the status line of the reply to verb and returns the text after
// +OK, valid until the next read. After -ERR it returns a *ReplyError.
func (c *Client) readReply(verb string) (text []byte, err error) {
	line, err := c.w.readLine(verb, maxLine)
	if err != nil {
		return nil, err
	}
	st, text := cutStatus(line)
	switch st {
	case statusOK:
		return text, nil
	case statusErr:
		return nil, c.newReplyError(verb, text)
	}
	return nil, c.w.failSyntax(verb, "+OK or -ERR", line)
}

func (c *Client) newReplyError(verb string, text []byte) *ReplyError {
	code, rest := cutCode(string(text), c.caps.Has("RESP-CODES"))
	if !code.isRegistered() {
		code = ReplyCode(c.w.secrets.Text(string(code)))
	}
	return &ReplyError{Verb: verb, Code: code, Text: c.w.secrets.Excerpt(rest, maxReplyText)}
}

// readLines reads the lines of a multi-line reply (RFC 1939 §3), of which there
// may be at most limit, and calls handle for each that is not blank. The line is
// valid during the call.
func (c *Client) readLines(verb string, limit int, handle func(line []byte) error) error {
	for n := 0; ; n++ {
		line, err := c.w.readLine(verb, maxLine)
		if err != nil {
			return err
		}
		if string(line) == "." {
			return nil
		}
		if n == limit {
			return c.w.failSyntax(verb, fmt.Sprintf("at most %d lines", limit), line)
		}
		line = bytes.TrimPrefix(line, []byte("."))
		// OpaqueMail #60: some servers put blank lines into listings.
		if len(trimBlanks(line)) == 0 {
			continue
		}
		if err := handle(line); err != nil {
			return err
		}
	}
}
