package pop3proto

import (
	"fmt"
	"io"
	"strings"
)

// Direction tells who sent a line.
type Direction byte

const (
	// FromClient marks commands, and responses to authentication challenges.
	FromClient Direction = 'C'
	// FromServer marks replies.
	FromServer Direction = 'S'
)

// String returns "C" or "S", as in the dialogues of RFCs.
func (d Direction) String() string { return string(rune(d)) }

// Tracer receives the dialogue with the server. Secrets are masked, also where the
// server echoes them, and only the size of a message body is reported. All other
// bytes are as the server sent them: quote them before printing them to a terminal.
type Tracer interface {
	// Trace is called for each line, without its line end, in the goroutine that
	// uses the Client.
	Trace(dir Direction, line string)
}

// Hide masks secret in all later errors and traces of this client. Secrets that the
// client sends are masked anyway; Hide is for those that the server may know without,
// such as the password of a challenge-response login.
func (c *Client) Hide(secret string) { c.w.secrets.Add(secret) }

// maskSASL masks a SASL response and the password or token in it.
func (w *wire) maskSASL(mechanism, message string) {
	w.secrets.AddMessage(message)
	// PLAIN puts the password last (RFC 4616 §2), LOGIN into a message of its own.
	if i := strings.LastIndexByte(message, 0); i >= 0 {
		w.secrets.Add(message[i+1:])
	}
	if mechanism == "LOGIN" {
		w.secrets.Add(message)
	}
	// OAUTHBEARER and XOAUTH2 (RFC 7628 §3.1).
	if _, token, ok := strings.Cut(message, "auth=Bearer "); ok {
		token, _, _ = strings.Cut(token, "\x01")
		w.secrets.Add(token)
	}
}

func (w *wire) traceReply(line []byte) {
	if w.tracer != nil {
		w.tracer.Trace(FromServer, w.secrets.Text(string(line)))
	}
}

func (w *wire) traceCommand(line string) {
	if w.tracer != nil {
		w.tracer.Trace(FromClient, line)
	}
}

// traceBody traces the size of a body that ended with err.
func (w *wire) traceBody(octets int64, err error) {
	if w.tracer == nil {
		return
	}
	line := fmt.Sprintf("(%d octets)", octets)
	if err != io.EOF {
		line = fmt.Sprintf("(%d octets, then: %v)", octets, err)
	}
	w.tracer.Trace(FromServer, line)
}
