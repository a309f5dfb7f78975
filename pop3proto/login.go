package pop3proto

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"strings"
)

// Login logs in with USER and PASS (RFC 1939 §7), which send the password as plain
// text. The error is ErrControl if either argument contains CR, LF or NUL. The Verb
// of a *ReplyError tells which of the two commands the server refused.
func (c *Client) Login(ctx context.Context, user, pass string) error {
	if err := checkArgs(user, pass); err != nil {
		return err
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, err := c.exchange("USER", "USER "+user); err != nil {
		return err
	}
	return c.exchangeSecret("PASS", "PASS ", pass)
}

// UTF8 enables UTF8 mode (RFC 6856 §2.1), without which a server converts or
// refuses messages with UTF-8 in their header. Call it after StartTLS and before the
// login. If the server refuses, with a *ReplyError, the session goes on without.
func (c *Client) UTF8(ctx context.Context) error { return c.simpleCommand(ctx, "UTF8") }

// APOP logs in with an MD5 digest of the greeting's timestamp and a secret shared
// with the server (RFC 1939 §7). An eavesdropper can guess a weak secret from the
// digest. It is an error if Timestamp returns none.
func (c *Client) APOP(ctx context.Context, user, secret string) error {
	if err := checkArgs(user, secret); err != nil {
		return err
	}
	if strings.Contains(user, " ") {
		return errors.New("APOP: the user name holds a blank")
	}
	stamp, ok := c.Timestamp()
	if !ok {
		return errors.New("APOP: the server's greeting has no valid timestamp")
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	digest := md5.Sum([]byte(stamp + secret))
	return c.exchangeSecret("APOP", "APOP "+user+" ", hex.EncodeToString(digest[:]))
}

// exchangeSecret sends line followed by secret and reads the one-line reply.
func (c *Client) exchangeSecret(verb, line, secret string) error {
	if err := c.checkUnsolicited(verb); err != nil {
		return err
	}
	c.w.queueSecret(line, secret)
	if err := c.w.flush(); err != nil {
		return err
	}
	_, err := c.readReply(verb)
	return err
}

// checkArgs rejects arguments that could inject further commands.
func checkArgs(args ...string) error {
	for _, arg := range args {
		if strings.ContainsAny(arg, "\r\n\x00") {
			return ErrControl
		}
	}
	return nil
}

// Timestamp returns the APOP timestamp of the greeting, with its angle brackets
// (RFC 1939 §7), and false if there is none that is a valid message-id. With
// invalid timestamps an attacker in the middle can recover bytes of the secret
// (CVE-2007-1558).
func (c *Client) Timestamp() (string, bool) {
	for rest := c.greeting; ; {
		_, after, ok := strings.Cut(rest, "<")
		if !ok {
			return "", false
		}
		if id, _, ok := strings.Cut(after, ">"); ok && isMessageID(id) {
			return "<" + id + ">", true
		}
		rest = after
	}
}

// isMessageID reports whether id, without its angle brackets, is x@y in
// printable ASCII without quoting.
func isMessageID(id string) bool {
	local, domain, ok := strings.Cut(id, "@")
	if !ok || local == "" || domain == "" {
		return false
	}
	for _, r := range local + domain {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()@,;"\`, r) {
			return false
		}
	}
	return true
}
