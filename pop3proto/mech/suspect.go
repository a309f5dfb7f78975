package mech

import "errors"

// ErrSuspect matches, with errors.Is, errors of a server that behaved like an
// attacker in its place or in the middle: it gave a wrong proof or none, or asked for
// something that would weaken the client's protection. ErrUnproven and ErrStripped
// match it. A refused login does not, nor does a server that breaks the mechanism's
// syntax.
var ErrSuspect = errors.New("somebody may be impersonating the server")

// suspectError is an error that matches ErrSuspect.
type suspectError struct{ text string }

func (e *suspectError) Error() string { return e.text }

// Is reports whether target is ErrSuspect.
func (e *suspectError) Is(target error) bool { return target == ErrSuspect }

// Hint returns what the user can do about an error of a mechanism, or "" if that
// depends on where it logs in.
func Hint(err error) string {
	switch {
	case errors.Is(err, ErrSuspect):
		return "do not trust this network, or this server; the password was not sent"
	case errors.Is(err, ErrBinding):
		return "leave the mechanisms with -plus out of auth for this server"
	}
	return ""
}
