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

// mask returns b with every secret of the running command blotted out.
func (w *wire) mask(b []byte) string {
	s := string(b)
	for _, secret := range w.secrets {
		s = strings.ReplaceAll(s, secret, masked)
	}
	return s
}

// hide adds to the secrets of the running command.
func (w *wire) hide(secret string) {
	if secret != "" {
		w.secrets = append(w.secrets, secret)
	}
	// The password ends a message of SASL PLAIN (RFC 4616 §2), and a server
	// may echo it alone.
	if i := strings.LastIndexByte(secret, 0); i >= 0 {
		w.hide(secret[i+1:])
	}
	// So may it do with the token of OAUTHBEARER and XOAUTH2 (RFC 7628 §3.1).
	if _, token, ok := strings.Cut(secret, "auth=Bearer "); ok {
		token, _, _ = strings.Cut(token, "\x01")
		w.hide(token)
	}
}

func (w *wire) traceReply(line []byte) {
	if w.tracer != nil {
		w.tracer.Trace(FromServer, w.mask(line))
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
