package mech

import "errors"

// SecretError means that the secret for a mechanism could not be obtained. Err never
// contains a secret.
type SecretError struct {
	Needs Proof // Password, Token or Ticket
	Err   error
}

// Error returns "no password: cause".
func (e *SecretError) Error() string { return "no " + string(e.Needs) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// Hint returns what the user can do: the result of the cause's method Hint, or "" if
// it has none.
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

// Temporary reports whether the error may go away without the user, as when a
// provider of tokens cannot be reached: the result of the cause's method Temporary, if
// it has one. A missing password always needs the user.
func (e *SecretError) Temporary() bool {
	cause, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](e.Err)
	return ok && e.Needs != Password && cause.Temporary()
}
