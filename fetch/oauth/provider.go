// Package oauth gets access tokens for mail accounts by OAuth 2.0 (RFC 6749)
// and keeps them coming: a person grants access once, in a browser or on
// another device, and from then on the refresh token that came of it is kept
// in a file and exchanged for access tokens as they are needed.
//
// No error of this package holds a token, a code or a client's secret.
package oauth

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
)

// Protocol is what a mailbox is accessed by.
type Protocol string

// The protocols that providers have scopes for.
const (
	POP  Protocol = "pop"
	IMAP Protocol = "imap"
	SMTP Protocol = "smtp"
)

// Provider is an authorization server (RFC 6749 §1.1) and its ways.
type Provider struct {
	// Name is what a person calls it.
	Name string
	// Issuer is where it publishes the addresses that are empty here
	// (RFC 8414); without it, they stay empty.
	Issuer string
	// AuthURL, TokenURL and DeviceURL are its endpoints (RFC 6749 §3,
	// RFC 8628 §3.1). Without an AuthURL nobody can log in by a browser,
	// without a DeviceURL by another device.
	AuthURL, TokenURL, DeviceURL string
	// Scopes is what to ask for (RFC 6749 §3.3) to use each protocol, Offline
	// what to ask for besides to be given a refresh token.
	Scopes  map[Protocol][]string
	Offline []string
	// AuthParams are added to an authorization request.
	AuthParams map[string]string
	// LocalName is what redirect URIs call this machine; empty is 127.0.0.1,
	// as RFC 8252 §8.3 wants it.
	LocalName string
	// Basic has clients authenticate by an Authorization header instead of
	// in the form (RFC 6749 §2.3.1).
	Basic bool
}

// Google returns Google's endpoints. It has no device flow: Google's gives no
// access to mail. Without access_type there is no refresh token, and without
// prompt only the first login ever gets one.
func Google() Provider {
	mail := []string{"https://mail.google.com/"}
	return Provider{
		Name:       "google",
		AuthURL:    "https://accounts.google.com/o/oauth2/v2/auth",
		TokenURL:   "https://oauth2.googleapis.com/token",
		Scopes:     map[Protocol][]string{POP: mail, IMAP: mail, SMTP: mail},
		AuthParams: map[string]string{"access_type": "offline", "prompt": "consent"},
	}
}

// Microsoft returns the endpoints of a tenant of Microsoft's, by its name or
// id; an empty one is "common", which takes everyone. Microsoft ignores the
// port of a redirect URI only where that is on localhost.
func Microsoft(tenant string) Provider {
	base := "https://login.microsoftonline.com/" + url.PathEscape(cmp.Or(tenant, "common")) + "/oauth2/v2.0/"
	const office = "https://outlook.office.com/"
	return Provider{
		Name:      "microsoft",
		AuthURL:   base + "authorize",
		TokenURL:  base + "token",
		DeviceURL: base + "devicecode",
		Scopes: map[Protocol][]string{
			POP:  {office + "POP.AccessAsUser.All"},
			IMAP: {office + "IMAP.AccessAsUser.All"},
			SMTP: {office + "SMTP.Send"},
		},
		Offline:   []string{"offline_access"},
		LocalName: "localhost",
	}
}

// Yahoo returns Yahoo's endpoints. It has no device flow.
func Yahoo() Provider {
	mail := []string{"mail-w"}
	return Provider{
		Name:      "yahoo",
		AuthURL:   "https://api.login.yahoo.com/oauth2/request_auth",
		TokenURL:  "https://api.login.yahoo.com/oauth2/get_token",
		Scopes:    map[Protocol][]string{POP: mail, IMAP: mail, SMTP: mail},
		LocalName: "localhost",
	}
}

// ScopesFor returns what to ask for to use protocols and be given a refresh
// token.
func (p *Provider) ScopesFor(protocols ...Protocol) []string {
	var scopes []string
	for _, protocol := range protocols {
		for _, scope := range p.Scopes[protocol] {
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return append(scopes, p.Offline...)
}

// CheckURL returns an error, to be read after "is", unless what is sent to an
// address can be read by its server alone: OAuth rests on TLS (RFC 6749 §1.6,
// §10.3). This machine needs none.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	const longest = 2000
	if err != nil || len(address) > longest || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("not the address of a server") // it may hold a password
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme == "https" || u.Scheme == "http" && local {
		return nil
	}
	return fmt.Errorf("%.200q, which does not start with https://", address)
}
