package pop3proto

import (
	"fmt"
	"io"
	"strings"
)

// Direction says who sent a line.
type Direction byte

const (
	// FromClient lines are commands, and responses of an authentication.
	FromClient Direction = 'C'
	// FromServer lines are replies.
	FromServer Direction = 'S'
)

// String returns "C" or "S", as dialogues in RFCs have it.
func (d Direction) String() string { return string(rune(d)) }

// Tracer sees the dialogue with the server as a person may read it. Secrets
// are masked before it is called, also where a server echoes them, and the
// bodies of messages are no more than their count of octets. The server's
// bytes are as they came otherwise: quote them before they reach a terminal.
type Tracer interface {
	// Trace is called with each line, without its line end, by the goroutine
	// that uses the Client.
	Trace(dir Direction, line string)
}

const masked = "***"

// Hide has every error and trace of this client from now on mask a secret that
// the server may know, also where no command has sent it: the password of a
// login by a challenge, for one.
func (c *Client) Hide(secret string) { c.w.secrets.Add(secret) }

// hideMessage masks a message of SASL, and what is secret in it.
func (w *wire) hideMessage(mechanism, message string) {
	w.secrets.AddMessage(message)
	// The password ends a message of PLAIN (RFC 4616 §2), and is one of LOGIN.
	if i := strings.LastIndexByte(message, 0); i >= 0 {
		w.secrets.Add(message[i+1:])
	}
	if mechanism == "LOGIN" {
		w.secrets.Add(message)
	}
	// So is the token in one of OAUTHBEARER and XOAUTH2 (RFC 7628 §3.1).
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

// traceBody tells of a body that ended with err.
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
