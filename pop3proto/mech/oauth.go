package mech

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// oauth is OAUTHBEARER (RFC 7628) and XOAUTH2, from which it grew, as Google
// and Microsoft document it.
type oauth struct {
	name    string
	initial string
	dummy   string // answers the server's complaint
	token   string
	failure *OAuthError
}

func newOAuth(name string, c Credentials) *oauth {
	if name == "xoauth2" {
		return &oauth{
			name:    "XOAUTH2",
			initial: "user=" + c.User + "\x01auth=Bearer " + c.Token + "\x01\x01",
			token:   c.Token,
		}
	}
	user := cmp.Or(c.Authzid, c.User)
	// The server learns from the token who logs in; a name is of use to route
	// the login (RFC 7628 §3.1). It is written as in RFC 5801 §4.
	s := "n,a=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user) + ",\x01"
	if c.Host != "" {
		s += "host=" + c.Host + "\x01"
	}
	if c.Port != 0 {
		s += "port=" + strconv.Itoa(c.Port) + "\x01"
	}
	return &oauth{
		name:    "OAUTHBEARER",
		initial: s + "auth=Bearer " + c.Token + "\x01\x01",
		dummy:   "\x01",
		token:   c.Token,
	}
}

func (o *oauth) Start() (name string, initial []byte, err error) {
	return o.name, []byte(o.initial), nil
}

// Next takes the reason why the server refuses the token. It must be answered
// before the server ends the exchange (RFC 7628 §3.2.3).
func (o *oauth) Next(challenge []byte) ([]byte, error) {
	if o.failure != nil {
		return nil, errors.New(o.name + ": " + tooMany)
	}
	o.failure = &OAuthError{Mechanism: o.name, token: o.token}
	var said struct{ Status, Scope any } // a string, but a number from some
	if len(challenge) <= maxChallenge && json.Unmarshal(challenge, &said) == nil {
		o.failure.Status, o.failure.Scope = word(said.Status), word(said.Scope)
	}
	return []byte(o.dummy), nil
}

func word(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Done joins the reason with the server's last word.
func (o *oauth) Done(reply error) error {
	if o.failure == nil {
		return reply
	}
	o.failure.Reply = reply
	return o.failure
}

// OAuthError means that the server refused an access token and said why (RFC
// 7628 §3.2.2). Unwrap leads to its last word, in POP3 a
// *pop3proto.ReplyError.
type OAuthError struct {
	// Mechanism is OAUTHBEARER or XOAUTH2.
	Mechanism string
	// Status is an error code of RFC 6750 §3.1 such as "invalid_token";
	// Google and Microsoft put a status of HTTP there, such as "400".
	Status string
	// Scope is what a token would have to be good for, if the server tells.
	Scope string
	// Reply is how the server ended the exchange.
	Reply error

	token string
}

// Error returns the reason in words, with what comes from the server quoted
// and cut to some 200 bytes.
func (e *OAuthError) Error() string {
	s := e.Mechanism + ": the server refuses the access token"
	switch e.Status {
	case "":
	case "invalid_token", "400", "401":
		s += ": it is invalid, has expired or belongs to another user"
	case "insufficient_scope", "403":
		s += ": it is not good for mail"
	case "invalid_request":
		s += ": the server does not understand the request"
	default:
		s += ": status " + quote(e.Status, e.token)
	}
	if e.Scope != "" {
		s += fmt.Sprintf(" (wanted scope: %s)", quote(e.Scope, e.token))
	}
	return s
}

// Unwrap returns Reply.
func (e *OAuthError) Unwrap() error { return e.Reply }
