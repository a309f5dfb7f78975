package pop3proto

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"strings"
)

// Login logs in with USER and PASS (RFC 1939 §7). The password crosses the
// connection as it is. CR, LF and NUL in either is ErrControl. A *ReplyError has
// the Verb that was refused.
func (c *Client) Login(ctx context.Context, user, pass string) error {
	if err := checkArgs(user, pass); err != nil {
		return err
	}
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := c.exchange("USER", "USER "+user); err != nil {
		return err
	}
	return c.secret("PASS", "PASS ", pass)
}

// UTF8 asks for messages as they are (RFC 6856 §2.1): a server that was not asked
// turns what has UTF-8 in its header into something else, or refuses it. It is for
// the time before the login and behind STLS. A *ReplyError is its refusal, after
// which the session goes on without.
func (c *Client) UTF8(ctx context.Context) error { return c.command(ctx, "UTF8") }

// APOP logs in with the digest of the greeting's timestamp and a secret that
// is shared with the server (RFC 1939 §7). MD5 as it is, the digest does not
// keep a weak secret from who reads it. It is an error if Timestamp has none.
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
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	digest := md5.Sum([]byte(stamp + secret))
	return c.secret("APOP", "APOP "+user+" ", hex.EncodeToString(digest[:]))
}

// secret sends a command that ends in a secret and reads its one-line reply.
func (c *Client) secret(verb, line, secret string) error {
	if err := c.idle(verb); err != nil {
		return err
	}
	c.w.putSecret(line, secret)
	if err := c.w.flush(); err != nil {
		return err
	}
	_, err := c.reply(verb)
	return err
}

// checkArgs keeps arguments from being commands of their own.
func checkArgs(args ...string) error {
	for _, arg := range args {
		if strings.ContainsAny(arg, "\r\n\x00") {
			return ErrControl
		}
	}
	return nil
}

// Timestamp returns the APOP timestamp of the greeting, angle brackets
// included (RFC 1939 §7), and false if there is none that looks like a
// message-id. Whoever stands between client and server can gather bytes of
// the secret with timestamps of his own making, but not with ones that are
// message-ids (CVE-2007-1558).
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
