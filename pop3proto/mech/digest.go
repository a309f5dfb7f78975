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

// digestMD5 is DIGEST-MD5 (RFC 2831) with qop "auth": authentication only, since TLS
// provides integrity and privacy.
type digestMD5 struct {
	c        Credentials
	expected string // the server's proof, once the client has responded
	verified bool   // the server has sent that proof
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
	if d.verified {
		return "", errors.New(unexpectedChallenge)
	}
	if len(challenge) > maxChallenge {
		return "", errors.New("the server's challenge is too long")
	}
	dirs, err := parseDirectives(string(challenge))
	if err != nil {
		return "", err
	}
	if d.expected == "" {
		return d.respond(dirs)
	}
	rspauth := dirs.single("rspauth")
	if subtle.ConstantTimeCompare([]byte(rspauth), []byte(d.expected)) != 1 {
		return "", ErrUnproven
	}
	d.verified = true
	return "", nil
}

// Done returns an error if the server accepts the login without its proof.
func (d *digestMD5) Done(reply error) error {
	if reply == nil && !d.verified {
		return fmt.Errorf("DIGEST-MD5: %w", ErrUnproven)
	}
	return reply
}

// respond returns the response to the first challenge (RFC 2831 §2.1.2).
func (d *digestMD5) respond(dirs directives) (string, error) {
	nonce := dirs.single("nonce")
	utf8 := strings.EqualFold(dirs.single("charset"), "utf-8")
	switch {
	case nonce == "":
		return "", errors.New("the server's challenge has no nonce, or more than one")
	case !strings.EqualFold(dirs.single("algorithm"), "md5-sess"):
		return "", errors.New("the server does not use the algorithm md5-sess")
	case !dirs.offersAuth():
		return "", errors.New("the server wants a security layer besides TLS")
	}
	realm := d.chooseRealm(dirs["realm"])
	user, userFits := toLatin1(d.c.User)
	pass, passFits := toLatin1(d.c.Password)
	if !utf8 && !(userFits && passFits) {
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
	if dirs["realm"] != nil {
		b.WriteString(",realm=" + quoted(realm))
	}
	b.WriteString(",nonce=" + quoted(nonce) + ",nc=" + count + ",cnonce=" + quoted(d.c.nonce) +
		",digest-uri=" + quoted(uri) + ",response=" + proof("AUTHENTICATE:"+uri) + ",qop=auth")
	if d.c.Authzid != "" {
		b.WriteString(",authzid=" + quoted(d.c.Authzid))
	}
	return b.String(), nil
}

// chooseRealm chooses one of the server's realms: the user's domain if it is offered,
// or else the first.
func (d *digestMD5) chooseRealm(offered []string) string {
	_, domain, _ := strings.Cut(d.c.User, "@")
	switch {
	case slices.Contains(offered, domain):
		return domain
	case len(offered) > 0:
		return offered[0]
	}
	return ""
}

// toLatin1 converts s to ISO 8859-1, which is hashed even if the exchange is in UTF-8
// (RFC 2831 §2.1.2.1). If that is impossible, it returns s and false.
func toLatin1(s string) (latin1 string, ok bool) {
	var b strings.Builder
	for _, r := range s {
		if r > 0xff {
			return s, false
		}
		b.WriteByte(byte(r))
	}
	return b.String(), true
}

// digest returns the MD5 of s in hexadecimal.
func digest(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
