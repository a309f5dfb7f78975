package mech

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
)

// cramMD5 is CRAM-MD5 (RFC 2195 §2).
type cramMD5 struct {
	user, password string
	responded      bool
}

func (c *cramMD5) Start() (name string, initial []byte, err error) { return "CRAM-MD5", nil, nil }

func (c *cramMD5) Next(challenge []byte) ([]byte, error) {
	switch {
	case c.responded:
		return nil, errors.New("CRAM-MD5: " + unexpectedChallenge)
	case len(challenge) == 0:
		// The response to an empty challenge could be replayed for ever.
		return nil, errors.New("CRAM-MD5: the server's challenge is empty")
	case len(challenge) > maxChallenge:
		return nil, errors.New("CRAM-MD5: the server's challenge is too long")
	}
	c.responded = true
	mac := hmac.New(md5.New, []byte(c.password))
	mac.Write(challenge)
	return []byte(c.user + " " + hex.EncodeToString(mac.Sum(nil))), nil
}
