package mech

import "errors"

// SecretError means that what a mechanism needs could not be had. Err never
// holds it.
type SecretError struct {
	Needs Proof // Password, Token or Ticket
	Err   error
}

// Error returns "no password: cause".
func (e *SecretError) Error() string { return "no " + string(e.Needs) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// Hint returns what the cause's own method Hint does: what the user can do; ""
// if it has none.
func (e *SecretError) Hint() string {
	cause, ok := errors.AsType[interface {
		error
		Hint() string
	}](e.Err)
	if !ok {
		return ""
	}
	return cause.Hint()
}

// Temporary reports whether it may pass by itself, which the cause's own method
// Temporary says: a provider of tokens that cannot be reached needs nobody.
// Without a password it always takes a person.
func (e *SecretError) Temporary() bool {
	cause, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](e.Err)
	return ok && e.Needs != Password && cause.Temporary()
}
