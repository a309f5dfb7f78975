package mech

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// digestMD5 is DIGEST-MD5 (RFC 2831) with qop "auth": it authenticates and
// leaves integrity and privacy to TLS.
type digestMD5 struct {
	c        Credentials
	expected string // the server's proof
	proven   bool
}

func (d *digestMD5) Start() (name string, initial []byte, err error) {
	return "DIGEST-MD5", nil, nil
}

func (d *digestMD5) Next(challenge []byte) ([]byte, error) {
	response, err := d.next(challenge)
	if err != nil {
		return nil, fmt.Errorf("DIGEST-MD5: %w", err)
	}
	return []byte(response), nil
}

func (d *digestMD5) next(challenge []byte) (string, error) {
	if d.proven {
		return "", errors.New(tooMany)
	}
	if len(challenge) > maxChallenge {
		return "", errors.New("the server's challenge is too long")
	}
	said, err := parseDirectives(string(challenge))
	if err != nil {
		return "", err
	}
	if d.expected == "" {
		return d.respond(said)
	}
	rspauth := said.one("rspauth")
	if subtle.ConstantTimeCompare([]byte(rspauth), []byte(d.expected)) != 1 {
		return "", ErrUnproven
	}
	d.proven = true
	return "", nil
}

// Done makes sure that a server which accepts the login has proved itself.
func (d *digestMD5) Done(reply error) error {
	if reply == nil && !d.proven {
		return fmt.Errorf("DIGEST-MD5: %w", ErrUnproven)
	}
	return reply
}

// respond answers the first challenge (RFC 2831 §2.1.2).
func (d *digestMD5) respond(said directives) (string, error) {
	nonce := said.one("nonce")
	utf8 := strings.EqualFold(said.one("charset"), "utf-8")
	switch {
	case nonce == "":
		return "", errors.New("the server's challenge has no nonce, or more than one")
	case !strings.EqualFold(said.one("algorithm"), "md5-sess"):
		return "", errors.New("the server does not use the algorithm md5-sess")
	case !said.offersAuth():
		return "", errors.New("the server wants a security layer besides TLS")
	}
	realm := d.realm(said["realm"])
	user, fits := hashed(d.c.User)
	pass, also := hashed(d.c.Password)
	if !utf8 && !(fits && also) {
		return "", errors.New("the server takes ISO 8859-1 only, which lacks a character of the user name or password")
	}

	const count = "00000001"
	uri := d.c.Service + "/" + d.c.Host
	secret := md5.Sum([]byte(user + ":" + realm + ":" + pass))
	a1 := string(secret[:]) + ":" + nonce + ":" + d.c.nonce
	if d.c.Authzid != "" {
		a1 += ":" + d.c.Authzid
	}
	proof := func(a2 string) string {
		return digest(digest(a1) + ":" + nonce + ":" + count + ":" + d.c.nonce + ":auth:" + digest(a2))
	}
	d.expected = proof(":" + uri)

	var b strings.Builder
	if utf8 {
		b.WriteString("charset=utf-8,")
		user = d.c.User
	}
	b.WriteString("username=" + quoted(user))
	if said["realm"] != nil {
		b.WriteString(",realm=" + quoted(realm))
	}
	b.WriteString(",nonce=" + quoted(nonce) + ",nc=" + count + ",cnonce=" + quoted(d.c.nonce) +
		",digest-uri=" + quoted(uri) + ",response=" + proof("AUTHENTICATE:"+uri) + ",qop=auth")
	if d.c.Authzid != "" {
		b.WriteString(",authzid=" + quoted(d.c.Authzid))
	}
	return b.String(), nil
}

// realm chooses among the server's realms: the user's own domain if it is one
// of them, or else the first.
func (d *digestMD5) realm(offered []string) string {
	_, domain, _ := strings.Cut(d.c.User, "@")
	switch {
	case slices.Contains(offered, domain):
		return domain
	case len(offered) > 0:
		return offered[0]
	}
	return ""
}

// hashed returns s as it enters the hash: in ISO 8859-1 if it can, even where
// the exchange is in UTF-8 (RFC 2831 §2.1.2.1).
func hashed(s string) (h string, latin1 bool) {
	var b strings.Builder
	for _, r := range s {
		if r > 0xff {
			return s, false
		}
		b.WriteByte(byte(r))
	}
	return b.String(), true
}

func digest(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
