package mech

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

// Credentials are who logs in, where, and with what. A mechanism looks only
// at the fields that it needs.
type Credentials struct {
	// User is the authentication identity: whose password or token it is.
	User string
	// Authzid is the authorization identity, whose mailbox to open; empty is
	// the user's own (RFC 4422 §2). LOGIN, CRAM-MD5 and XOAUTH2 have none.
	Authzid string
	// Password is for the mechanisms with Needs Password.
	Password string
	// Token is the access token for OAUTHBEARER and XOAUTH2.
	Token string
	// Host and Port are what the client connected to. OAUTHBEARER tells them
	// the server if they are set; DIGEST-MD5 and GSSAPI need Host.
	Host string
	Port int
	// Service is the protocol's registered name for DIGEST-MD5 and GSSAPI:
	// "imap", "smtp" or, if it is empty, "pop" (RFC 5034 §4).
	Service string
	// TLS is the connection's state, nil without TLS. SCRAM takes its channel
	// binding from there.
	TLS *tls.ConnectionState
	// PlusOffered is OffersPlus of what the server offers. If it offers -PLUS
	// and this says that it does not, it ends the login: somebody has stripped
	// its offer (RFC 5802 §6).
	PlusOffered bool
	// EndPoint binds SCRAM with -PLUS to the server's certificate, by
	// tls-server-end-point, as is done before TLS 1.3 in any case. From then on
	// the binding is tls-exporter otherwise.
	EndPoint bool
	// Kerberos is for GSSAPI.
	Kerberos Kerberos

	nonce string // our own; the examples of RFCs have theirs
}

// ErrUnproven is what an error is, in the sense of errors.Is, if the server
// did not prove that it knows the user's secret, or proved it wrongly. It is
// not the user's server; nothing is to be sent to it, least of all the
// password by a weaker mechanism.
var ErrUnproven error = &suspicion{"the server did not prove that it knows the password or key: somebody may be impersonating it"}

// tooMany is for a challenge when all is said.
const tooMany = "the server asks for more than the mechanism has to say"

// maxChallenge bounds the challenges that are looked at, in bytes. RFC 2831
// §2.1.1 allows 2048; nothing else comes near.
const maxChallenge = 4 << 10

// New returns the client side of a mechanism, by its name of Strongest. It is
// good for one login. The error says what the credentials lack. For GSSAPI it
// asks the KDCs of krb5.conf for a ticket, for half a minute at most; that
// there is none is a *TicketError, or the end of ctx.
func New(ctx context.Context, name string, c Credentials) (sasl.Client, error) {
	if err := c.check(name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.Service, c.nonce = cmp.Or(c.Service, "pop"), cmp.Or(c.nonce, rand.Text())
	switch name {
	case "external":
		return sasl.NewExternalClient(c.Authzid), nil
	case "plain":
		return sasl.NewPlainClient(c.Authzid, c.User, c.Password), nil
	case "login":
		return &login{user: c.User, password: c.Password}, nil
	case "cram-md5":
		return &cramMD5{user: c.User, password: c.Password}, nil
	case "digest-md5":
		return &digestMD5{c: c}, nil
	case "oauthbearer", "xoauth2":
		return newOAuth(name, c), nil
	case "gssapi":
		return newGSSAPI(ctx, c)
	}
	return newSCRAM(name, c)
}

// check finds what a mechanism needs and the credentials lack, and what no
// mechanism can send.
func (c *Credentials) check(name string) error {
	var info Info
	for _, m := range mechanisms {
		if m.Name == name {
			info = m
		}
	}
	// NUL separates the parts of PLAIN (RFC 4616 §2), ^A those of OAuth (RFC
	// 7628 §3.1); no other mechanism has a use for a control character in a
	// name either.
	for _, s := range []string{c.User, c.Authzid, c.Host, c.Token} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("the user name, host or token holds a control character")
		}
	}
	if strings.Contains(c.Password, "\x00") {
		return errors.New("the password holds a NUL")
	}
	switch info.Needs {
	case "":
		return errors.New("there is no such mechanism")
	case Password:
		if c.User == "" || c.Password == "" {
			return errors.New("it needs a user name and a password")
		}
	case Token:
		if c.User == "" || c.Token == "" {
			return errors.New("it needs a user name and an access token")
		}
	}
	if c.Host == "" && (name == "gssapi" || name == "digest-md5") {
		return errors.New("it needs the server's host name")
	}
	if info.NeedsTLS && c.TLS == nil {
		return errors.New("it needs TLS")
	}
	return nil
}

// WithoutInitialResponse returns m with its first response held back until the
// server asks for it with an empty challenge. Microsoft's POP3 server wants
// XOAUTH2 in these two steps and hangs up on one.
func WithoutInitialResponse(m sasl.Client) sasl.Client { return &twoStep{Client: m} }

// WithShortInitialResponse returns m with its first response held back in the
// same way if it has more than room octets in base64.
func WithShortInitialResponse(m sasl.Client, room int) sasl.Client {
	return &twoStep{Client: m, room: room}
}

type twoStep struct {
	sasl.Client
	room int // for a first response, 0 if there is to be none
	held []byte
}

func (t *twoStep) Start() (name string, initial []byte, err error) {
	name, initial, err = t.Client.Start()
	if t.room > 0 && base64.StdEncoding.EncodedLen(len(initial)) <= t.room {
		return name, initial, err
	}
	t.held = initial
	return name, nil, err
}

func (t *twoStep) Next(challenge []byte) ([]byte, error) {
	if held := t.held; held != nil {
		t.held = nil
		return held, nil
	}
	return t.Client.Next(challenge)
}

// Done passes the server's last word on.
func (t *twoStep) Done(reply error) error {
	if m, ok := t.Client.(interface{ Done(error) error }); ok {
		return m.Done(reply)
	}
	return reply
}

// quote returns what a server said for an error: quoted, at most some 200
// bytes of it, and without the secret.
func quote(said, secret string) string {
	const limit = 200
	// Before the cut, which could leave half a secret.
	var secrets mask.Set
	secrets.Add(secret)
	said = secrets.Text(said)
	if len(said) > limit {
		said = said[:limit] + "..."
	}
	return fmt.Sprintf("%q", said)
}
