package pop3proto

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
)

const (
	// maxCommand is the longest command, CRLF included (RFC 2449 §4).
	maxCommand = 255
	// maxChallenge limits a challenge. RFC 5034 §4 leaves the limit to the
	// mechanism; this is SMTP's (RFC 4954 §4).
	maxChallenge = 12288
	// maxRounds limits the number of challenges. No mechanism in use needs five.
	maxRounds = 16
)

const verbAuth = "AUTH"

// finisher is a mechanism that judges the end of an exchange. Done is called
// with nil for +OK and a *ReplyError for -ERR, and returns the error of the
// login. An error after +OK means that the server did not prove its identity.
type finisher interface{ Done(reply error) error }

// responder is a mechanism that knows whether it has another response to send,
// whatever the challenge. As long as it has, only -ERR ends the exchange.
type responder interface{ HasResponse() bool }

// Authenticate logs in with a SASL mechanism (RFC 5034 §4). If the mechanism
// fails, Authenticate cancels the exchange and returns that error; the session
// goes on. Two methods of mech are optional:
//
//   - Done(error) error is called with the server's final reply, nil for +OK and
//     a *ReplyError for -ERR. Authenticate returns its result. An error after +OK
//     breaks the client.
//   - HasResponse() bool reports whether mech has another response to send. If
//     so, any reply that begins with + counts as a challenge, even +OK.
func (c *Client) Authenticate(ctx context.Context, mech sasl.Client) error {
	name, initial, err := mech.Start()
	if err != nil {
		return err
	}
	if !isMechanism(name) {
		return fmt.Errorf("AUTH: %q is not the name of a mechanism", name)
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	held, err := c.sendAuth(name, initial)
	if err != nil {
		return err
	}
	for range maxRounds {
		challenge, final, err := c.readChallenge(held != nil || hasResponse(mech))
		switch {
		case errors.Is(err, ErrBroken):
			return err
		case final:
			return c.finish(mech, err)
		case err != nil:
			return c.cancel(err)
		}
		response := held
		held = nil
		if response == nil {
			if response, err = mech.Next(challenge); err != nil {
				return c.cancel(err)
			}
		}
		c.w.maskSASL(name, string(response))
		c.w.queueUntraced("", base64.StdEncoding.EncodeToString(response))
		if err := c.w.flush(); err != nil {
			return err
		}
	}
	return c.w.failSyntax(verbAuth, fmt.Sprintf("at most %d challenges", maxRounds), nil)
}

func hasResponse(mech sasl.Client) bool {
	r, ok := mech.(responder)
	return ok && r.HasResponse()
}

// sendAuth sends AUTH with the initial response, unless there is none. A
// response that is too long for the command is returned as held, and has to
// answer the first challenge, which is empty.
func (c *Client) sendAuth(name string, initial []byte) (held []byte, err error) {
	if err := c.checkUnsolicited(verbAuth); err != nil {
		return nil, err
	}
	line := verbAuth + " " + name
	encoded := base64.StdEncoding.EncodeToString(initial)
	switch {
	case initial == nil:
		c.w.queue(line)
	case len(initial) == 0:
		c.w.queue(line + " =")
	case len(line)+len(" ")+len(encoded)+len("\r\n") <= maxCommand:
		c.w.maskSASL(name, string(initial))
		c.w.queueUntraced(line+" ", encoded)
	default:
		held = initial
		c.w.queue(line)
	}
	return held, c.w.flush()
}

// readChallenge reads the server's next reply of the exchange. final means that
// it was the last: +OK, or -ERR with a *ReplyError. If the client has a response
// to send, any reply that begins with + is a challenge: some servers challenge
// with +OK, with text that is not base64, or without a blank after the +.
func (c *Client) readChallenge(hasResponse bool) (challenge []byte, final bool, err error) {
	line, err := c.w.readLine(verbAuth, maxChallenge)
	if err != nil {
		return nil, true, err
	}
	st, text := cutStatus(line)
	if hasResponse && bytes.HasPrefix(line, []byte("+")) {
		challenge, _ := base64.StdEncoding.DecodeString(string(text))
		return challenge, false, nil
	}
	switch st {
	case statusOK:
		return nil, true, nil
	case statusErr:
		return nil, true, c.newReplyError(verbAuth, text)
	case statusContinue:
		challenge, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			err = c.w.protocolError(verbAuth, "a challenge in base64", text)
		}
		return challenge, false, err
	}
	return nil, true, c.w.failSyntax(verbAuth, "+OK, -ERR or a challenge", line)
}

// finish lets the mechanism judge the final reply.
func (c *Client) finish(mech sasl.Client, reply error) error {
	f, ok := mech.(finisher)
	if !ok {
		return reply
	}
	err := f.Done(reply)
	if err != nil && reply == nil {
		return c.w.fail(err)
	}
	return err
}

// cancel cancels the exchange (RFC 5034 §4) and returns cause, joined by the error
// of cancelling if the server does not reply with -ERR, as it must. A malicious
// server could otherwise hide cause behind an error of its own.
func (c *Client) cancel(cause error) error {
	_, err := c.exchange(verbAuth, "*")
	if _, refused := errors.AsType[*ReplyError](err); refused {
		return cause
	}
	if err == nil {
		err = c.w.failSyntax(verbAuth, "-ERR to a cancelled exchange", nil)
	}
	return fmt.Errorf("%w; then: %w", cause, err)
}

// isMechanism reports whether name is the name of a SASL mechanism (RFC 4422
// §3.1).
func isMechanism(name string) bool {
	if len(name) < 1 || len(name) > 20 {
		return false
	}
	return strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}
