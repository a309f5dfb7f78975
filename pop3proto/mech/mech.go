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

// Credentials are what a login needs: the user, the server, and a secret. Each
// mechanism uses only some of the fields.
type Credentials struct {
	// User is the authentication identity, to which the password or token
	// belongs.
	User string
	// Authzid is the authorization identity, whose mailbox to open; empty means
	// User's (RFC 4422 §2). LOGIN, CRAM-MD5 and XOAUTH2 ignore it.
	Authzid string
	// Password is for the mechanisms whose Info.Needs is Password.
	Password string
	// Token is the access token for OAUTHBEARER and XOAUTH2.
	Token string
	// Host and Port are what the client connected to. OAUTHBEARER sends them to
	// the server if they are set; DIGEST-MD5 and GSSAPI need Host.
	Host string
	Port int
	// Service is the protocol's registered name for DIGEST-MD5 and GSSAPI:
	// "imap", "smtp" or, if it is empty, "pop" (RFC 5034 §4).
	Service string
	// TLS is the connection's state, or nil without TLS. SCRAM takes its channel
	// binding from it.
	TLS *tls.ConnectionState
	// PlusOffered is the result of OffersPlus for the mechanisms that the client
	// has seen. If it is false and the server does offer -PLUS, the server ends the
	// login, since someone has stripped its offer (RFC 5802 §6).
	PlusOffered bool
	// EndPoint makes SCRAM with -PLUS use the channel binding
	// tls-server-end-point, the server's certificate, also with TLS 1.3, where the
	// default is tls-exporter.
	EndPoint bool
	// Kerberos is for GSSAPI.
	Kerberos Kerberos

	nonce string // the client's; set by tests with the examples of RFCs
}

// ErrUnproven matches, with errors.Is, errors of a server that did not prove that it
// knows the user's secret. Nothing more must be sent to such a server, least of all
// the password with a weaker mechanism.
var ErrUnproven error = &suspectError{"the server did not prove that it knows the password or key: somebody may be impersonating it"}

// unexpectedChallenge is the error text for a challenge after the last response.
const unexpectedChallenge = "the server asks for more than the mechanism has to say"

// maxChallenge limits a challenge, in bytes. RFC 2831 §2.1.1 allows 2048; those of
// other mechanisms are far shorter.
const maxChallenge = 4 << 10

// New returns the mechanism with that Info.Name, for one login. The error tells
// what the credentials lack. For GSSAPI, New may ask the KDCs of krb5.conf for a
// ticket, for up to 30 seconds. If there is none, the error is a *TicketError, or the
// cause of ctx.
func New(ctx context.Context, name string, c Credentials) (sasl.Client, error) {
	if err := c.validate(name); err != nil {
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

// validate returns an error if the credentials lack something that the mechanism
// needs, or contain something that it cannot send.
func (c *Credentials) validate(name string) error {
	var info Info
	for _, m := range mechanisms {
		if m.Name == name {
			info = m
		}
	}
	// NUL separates the parts of PLAIN (RFC 4616 §2), ^A those of OAuth (RFC
	// 7628 §3.1). No mechanism needs a control character in these fields.
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

// WithoutInitialResponse returns m without its initial response, which then
// answers the server's first, empty challenge instead. Microsoft's POP3 server wants
// XOAUTH2 in these two steps and otherwise hangs up.
func WithoutInitialResponse(m sasl.Client) sasl.Client { return &twoStep{Client: m} }

// WithShortInitialResponse is like WithoutInitialResponse if the initial response
// has more than room octets in base64. Otherwise m is unchanged.
func WithShortInitialResponse(m sasl.Client, room int) sasl.Client {
	return &twoStep{Client: m, room: room}
}

type twoStep struct {
	sasl.Client
	room int    // for an initial response; 0 allows none
	held []byte // answers the first challenge
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

// Done passes the server's final reply to the mechanism.
func (t *twoStep) Done(reply error) error {
	if m, ok := t.Client.(interface{ Done(error) error }); ok {
		return m.Done(reply)
	}
	return reply
}

// quote returns a server's text for use in an error: quoted, truncated to about 200
// bytes, and with the secret masked.
func quote(text, secret string) string {
	const limit = 200
	var secrets mask.Set
	secrets.Add(secret)
	return fmt.Sprintf("%q", secrets.Excerpt(text, limit))
}
