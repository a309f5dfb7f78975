package mech

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// oauth is OAUTHBEARER (RFC 7628) or its predecessor XOAUTH2, as documented by
// Google and Microsoft.
type oauth struct {
	name    string
	initial string
	dummy   string // the response to the server's error message
	token   string
	failure *OAuthError // the server's error message, if it has sent one
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
	// The token identifies the user. The name may be needed to route the login
	// (RFC 7628 §3.1). RFC 5801 §4 defines its escapes.
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

// Next stores the server's error message. The client must respond before the server
// ends the exchange (RFC 7628 §3.2.3).
func (o *oauth) Next(challenge []byte) ([]byte, error) {
	if o.failure != nil {
		return nil, errors.New(o.name + ": " + unexpectedChallenge)
	}
	o.failure = &OAuthError{Mechanism: o.name, token: o.token}
	var message struct{ Status, Scope any } // strings, but some servers send numbers
	if len(challenge) <= maxChallenge && json.Unmarshal(challenge, &message) == nil {
		o.failure.Status, o.failure.Scope = jsonText(message.Status), jsonText(message.Scope)
	}
	return []byte(o.dummy), nil
}

// jsonText formats a JSON value, or returns "" if it is missing.
func jsonText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Done returns the server's error message, if it has sent one, with the final reply.
func (o *oauth) Done(reply error) error {
	if o.failure == nil {
		return reply
	}
	o.failure.Reply = reply
	return o.failure
}

// OAuthError means that the server refused an access token with an error message
// (RFC 7628 §3.2.2). It wraps the server's final reply, in POP3 a
// *pop3proto.ReplyError.
type OAuthError struct {
	// Mechanism is OAUTHBEARER or XOAUTH2.
	Mechanism string
	// Status is an error code of RFC 6750 §3.1, such as "invalid_token", or, with
	// Google and Microsoft, an HTTP status, such as "400".
	Status string
	// Scope is the scope that a token needs, or empty if the server does not tell.
	Scope string
	// Reply is the final reply of the exchange.
	Reply error

	token string
}

// Error describes the reason. Text from the server is quoted and truncated to about
// 200 bytes.
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
