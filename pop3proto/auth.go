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
	// maxChallenge bounds a challenge; RFC 5034 §4 leaves that to the
	// mechanism. SMTP's figure is known to do (RFC 4954 §4).
	maxChallenge = 12288
	// maxRounds bounds the challenges. No mechanism in use needs five.
	maxRounds = 16
)

const verbAuth = "AUTH"

// finisher is a mechanism that has the last word about an exchange. Done is
// told how the server ended it: with +OK (nil) or with -ERR (a *ReplyError).
// It returns what to make of that. An error in spite of +OK means that the
// server left out its own proof: whoever took the login is not the server
// that shares the secret.
type finisher interface{ Done(reply error) error }

// debtor is a mechanism that answers whatever it is asked. Owes reports whether it has
// more to say: before that, no word of the server's can be the last but a refusal.
type debtor interface{ Owes() bool }

// Authenticate logs in with a SASL mechanism (RFC 5034 §4). An error of the
// mechanism cancels the exchange and is returned; the session goes on. If
// mech has a method Done(error) error, it is told how the server ended the
// exchange, nil for +OK and a *ReplyError for -ERR, and its result is
// returned; an error in spite of +OK breaks the client. If it has a method Owes() bool
// that says true, whatever begins with + is a challenge.
func (c *Client) Authenticate(ctx context.Context, mech sasl.Client) error {
	name, initial, err := mech.Start()
	if err != nil {
		return err
	}
	if !isMechanism(name) {
		return fmt.Errorf("AUTH: %q is not the name of a mechanism", name)
	}
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := c.idle(verbAuth); err != nil {
		return err
	}

	// An initial response that is too long for the command answers an empty
	// challenge instead.
	line := verbAuth + " " + name
	held := initial
	response := base64.StdEncoding.EncodeToString(initial)
	switch {
	case initial == nil:
		c.w.put(line)
	case len(initial) == 0:
		held = nil
		c.w.put(line + " =")
	case len(line)+len(" ")+len(response)+len("\r\n") <= maxCommand:
		held = nil
		c.w.hideMessage(name, string(initial))
		c.w.putMessage(line+" ", response)
	default:
		c.w.put(line)
	}
	if err := c.w.flush(); err != nil {
		return err
	}

	for range maxRounds {
		d, ok := mech.(debtor)
		challenge, done, err := c.challenge(held != nil || ok && d.Owes())
		if errors.Is(err, ErrBroken) {
			return err
		}
		if done {
			return c.finish(mech, err)
		}
		if err != nil {
			return c.cancel(err)
		}
		response := held
		held = nil
		if response == nil {
			if response, err = mech.Next(challenge); err != nil {
				return c.cancel(err)
			}
		}
		c.w.hideMessage(name, string(response))
		c.w.putMessage("", base64.StdEncoding.EncodeToString(response))
		if err := c.w.flush(); err != nil {
			return err
		}
	}
	return c.w.failSyntax(verbAuth, fmt.Sprintf("at most %d challenges", maxRounds), nil)
}

// challenge reads the server's next word in the exchange. done means that it
// was the last: +OK, or -ERR with err a *ReplyError. Whoever owes an answer gives
// it whatever is asked: servers have been seen to ask by +OK, in words that are no
// base64, or without a blank after the +.
func (c *Client) challenge(owes bool) (challenge []byte, done bool, err error) {
	line, err := c.w.readLine(verbAuth, maxChallenge)
	if err != nil {
		return nil, true, err
	}
	st, text := cutStatus(line)
	if owes && bytes.HasPrefix(line, []byte("+")) {
		challenge, _ := base64.StdEncoding.DecodeString(string(text))
		return challenge, false, nil
	}
	switch st {
	case statusOK:
		return nil, true, nil
	case statusErr:
		return nil, true, c.replyError(verbAuth, text)
	case statusContinue:
		challenge, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			err = c.w.protocolError(verbAuth, "a challenge in base64", text)
		}
		return challenge, false, err
	}
	return nil, true, c.w.failSyntax(verbAuth, "+OK, -ERR or a challenge", line)
}

// finish lets the mechanism judge the end of the exchange.
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

// cancel ends the exchange because of cause (RFC 5034 §4), which stays the reason
// however the server takes that: it may have a cause to hide.
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
