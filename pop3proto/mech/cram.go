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
	asked          bool
}

func (m *cramMD5) Start() (name string, initial []byte, err error) { return "CRAM-MD5", nil, nil }

func (m *cramMD5) Next(challenge []byte) ([]byte, error) {
	switch {
	case m.asked:
		return nil, errors.New("CRAM-MD5: " + tooMany)
	case len(challenge) == 0:
		// The response to nothing would log in whoever has once seen it.
		return nil, errors.New("CRAM-MD5: the server's challenge is empty")
	case len(challenge) > maxChallenge:
		return nil, errors.New("CRAM-MD5: the server's challenge is too long")
	}
	m.asked = true
	mac := hmac.New(md5.New, []byte(m.password))
	mac.Write(challenge)
	return []byte(m.user + " " + hex.EncodeToString(mac.Sum(nil))), nil
}
