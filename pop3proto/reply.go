package pop3proto

import (
	"bytes"
	"fmt"
	"strings"
)

// ReplyError is the server's -ERR to a command. The session goes on.
type ReplyError struct {
	// Verb is the command, in upper case; "greeting" if the server refused
	// the connection.
	Verb string
	// Code is the response code, without brackets and in upper case; empty if
	// there was none.
	Code ReplyCode
	// Text is the rest of the line, cut to about 200 bytes. It is the
	// server's own words: quote it before it reaches a terminal.
	Text string
}

const maxReplyText = 200

// Error returns a line for a person, with control characters escaped.
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

// The response codes that are registered.
const (
	CodeInUse      ReplyCode = "IN-USE"      // another session has the maildrop locked (RFC 2449 §8.1.2)
	CodeLoginDelay ReplyCode = "LOGIN-DELAY" // too soon after the last login (RFC 2449 §8.1.1)
	CodeSysTemp    ReplyCode = "SYS/TEMP"    // the server has a trouble that will pass (RFC 3206 §4)
	CodeSysPerm    ReplyCode = "SYS/PERM"    // the server has a trouble that a person must mend (RFC 3206 §4)
	CodeAuth       ReplyCode = "AUTH"        // the credentials are wrong (RFC 3206 §5)
	CodeUTF8       ReplyCode = "UTF8"        // the command would work in UTF8 mode (RFC 6856 §5)
)

func (c ReplyCode) registered() bool {
	switch c {
	case CodeInUse, CodeLoginDelay, CodeSysTemp, CodeSysPerm, CodeAuth, CodeUTF8:
		return true
	}
	return false
}

// cutCode takes a response code off the beginning of a reply's text. A server
// that has not announced RESP-CODES may begin its text with a bracket of its
// own (RFC 2449 §6.4): of such a one only the registered codes are believed.
func cutCode(text string, announced bool) (ReplyCode, string) {
	inner, rest, ok := strings.Cut(text, "]")
	inner, open := strings.CutPrefix(inner, "[")
	if !ok || !open || inner == "" {
		return "", text
	}
	for i := range len(inner) {
		// RFC 2449 §3: rchar, and "/" between the levels.
		if inner[i] <= ' ' || inner[i] >= 0x7f {
			return "", text
		}
	}
	code := ReplyCode(strings.ToUpper(inner))
	if !announced && !code.registered() {
		return "", text
	}
	return code, strings.TrimLeft(rest, " \t")
}

// status is the first word of a reply.
type status byte

const (
	statusNone     status = iota // not a reply
	statusOK                     // +OK
	statusErr                    // -ERR
	statusContinue               // + (RFC 5034 §4)
)

// cutStatus takes the status indicator off a reply line. Servers have been
// seen to send it in lower case, and without a blank after it.
func cutStatus(line []byte) (status, []byte) {
	for _, word := range []struct {
		status status
		text   string
	}{{statusOK, "+OK"}, {statusErr, "-ERR"}, {statusContinue, "+"}} {
		n := len(word.text)
		if len(line) < n || !strings.EqualFold(string(line[:n]), word.text) {
			continue
		}
		rest := line[n:]
		if len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' {
			return word.status, bytes.TrimLeft(rest, " \t")
		}
		if word.status != statusContinue && !isAlnum(rest[0]) {
			return word.status, rest
		}
	}
	return statusNone, line
}

func isAlnum(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z'
}

// reply reads the status line of a reply to verb and returns the text after
// +OK, valid until the next read. After -ERR it returns a *ReplyError.
func (c *Client) reply(verb string) (text []byte, err error) {
	line, err := c.w.readLine(verb, maxLine)
	if err != nil {
		return nil, err
	}
	st, text := cutStatus(line)
	switch st {
	case statusOK:
		return text, nil
	case statusErr:
		return nil, c.replyError(verb, text)
	}
	return nil, c.w.failSyntax(verb, "+OK or -ERR", line)
}

func (c *Client) replyError(verb string, text []byte) *ReplyError {
	code, rest := cutCode(string(text), c.caps.Has("RESP-CODES"))
	rest = c.w.secrets.Text(rest)
	if !code.registered() {
		code = ReplyCode(c.w.secrets.Text(string(code)))
	}
	if len(rest) > maxReplyText {
		rest = rest[:maxReplyText] + "..."
	}
	return &ReplyError{Verb: verb, Code: code, Text: rest}
}

// lines reads the lines of a multi-line reply to its end (RFC 1939 §3), at
// most limit of them, and gives each but the blank ones to each, valid for
// the call.
func (c *Client) lines(verb string, limit int, each func(line []byte) error) error {
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
		if err := each(line); err != nil {
			return err
		}
	}
}
