// Package oauth gets access tokens for mail accounts by OAuth 2.0 (RFC 6749).
//
// A Client, registered with a Provider, acts for one mailbox. A person grants it
// access once, by Client.Browser or on another device by Client.Device. A Store keeps
// the Grant, which holds the refresh token, in a file. From then on a Source returns
// access tokens: it caches the current one and exchanges the refresh token for a new
// one before it expires. The lock of the grant keeps processes from refreshing it at
// the same time.
//
// source.go renews tokens; browser.go and device.go log in; client.go and token.go
// talk to the provider, whose endpoints are in provider.go or found by discover.go.
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

// Protocol is a protocol of mail access or submission.
type Protocol string

// The protocols that providers have scopes for.
const (
	POP  Protocol = "pop"
	IMAP Protocol = "imap"
	SMTP Protocol = "smtp"
)

// Provider is an authorization server (RFC 6749 §1.1) and its peculiarities.
type Provider struct {
	// Name is what users call it.
	Name string
	// Issuer is where Client.Discover finds the endpoints (RFC 8414), if
	// TokenURL is empty.
	Issuer string
	// AuthURL, TokenURL and DeviceURL are its endpoints (RFC 6749 §3,
	// RFC 8628 §3.1). Client.Browser needs AuthURL, Client.Device needs
	// DeviceURL.
	AuthURL, TokenURL, DeviceURL string
	// Scopes are the scopes for each protocol (RFC 6749 §3.3), Offline those
	// that are needed for a refresh token.
	Scopes  map[Protocol][]string
	Offline []string
	// AuthParams are added to an authorization request.
	AuthParams map[string]string
	// LocalName is the host in redirect URIs; empty is 127.0.0.1, as RFC 8252
	// §8.3 recommends.
	LocalName string
	// Basic means that clients authenticate by an Authorization header, and not
	// in the form (RFC 6749 §2.3.1).
	Basic bool
}

// Google returns Google's endpoints. There is none for devices, since Google's device
// flow gives no access to mail. Without access_type there is no refresh token, and
// without prompt only the first login ever gets one.
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

// Microsoft returns Microsoft's endpoints for a tenant, by name or id; empty is "common",
// which accepts all users. Microsoft ignores the port of a redirect URI only if its host
// is localhost.
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

// ScopesFor returns the scopes for some protocols and a refresh token.
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

// CheckURL returns an error, to be read after "is", unless address is an https URL:
// OAuth relies on TLS (RFC 6749 §1.6, §10.3). On this machine, http will do.
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
