package oauth

import (
	"fmt"
	"time"
)

// GrantError means that there will be no access token until a person acts.
type GrantError struct {
	// Provider is the name of the provider.
	Provider string
	// Code is its error code (RFC 6749 §5.2, RFC 8628 §3.5), such as
	// invalid_grant; empty if it gave none or was not asked.
	Code string
	// Text says what is wrong.
	Text string
	// Advice tells the user what to do; it may be empty.
	Advice string
}

// Error returns "provider: text".
func (e *GrantError) Error() string { return e.Provider + ": " + e.Text }

// Hint returns Advice.
func (e *GrantError) Hint() string { return e.Advice }

// TemporaryError means that a provider could not be reached, or could not answer.
type TemporaryError struct {
	// Provider is the name of the provider.
	Provider string
	Err      error
	// After is the Retry-After of the provider (RFC 9110 §10.2.3); 0 if it sent
	// none.
	After time.Duration
}

// Error returns "provider: cause".
func (e *TemporaryError) Error() string { return e.Provider + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TemporaryError) Unwrap() error { return e.Err }

// Temporary returns true: trying again may help.
func (e *TemporaryError) Temporary() bool { return true }

// loginAdvice is the advice to log in again.
func (c *Client) loginAdvice() string { return "run mailhaul login " + c.Account }

// newGrantError returns the error for an error code of the provider.
func (c *Client) newGrantError(code, text string) *GrantError {
	e := &GrantError{Provider: c.Provider.Name, Code: code, Text: fmt.Sprintf("refused with %.100q", code)}
	switch code {
	case "invalid_grant":
		e.Text, e.Advice = "the access that was granted has ended or was withdrawn (invalid_grant)", c.loginAdvice()
	case "access_denied":
		e.Text, e.Advice = "access was denied (access_denied)", c.loginAdvice()+", and allow the access"
	case "expired_token":
		e.Text, e.Advice = "nobody entered the code in time (expired_token)", c.loginAdvice()
	case "invalid_client", "unauthorized_client":
		e.Advice = "check client_id and client_secret, and that the client may use this way to log in"
	case "invalid_scope":
		e.Advice = "the provider does not know the scopes, or not for this way to log in: check scopes, or go without --device"
	case "redirect_uri_mismatch":
		e.Advice = "register the client as a desktop or native application, with the redirect URI http://localhost"
	default:
		e.Advice = c.loginAdvice()
	}
	if text != "" {
		e.Text += fmt.Sprintf(": %.300q", text)
	}
	return e
}
