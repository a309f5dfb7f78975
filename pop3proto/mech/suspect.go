package mech

import "errors"

// ErrSuspect is what an error is, in the sense of errors.Is, if the server did
// what somebody would do who stands in its place, or between it and us: it gave
// no proof or a wrong one, or tried to have us give away more than we should.
// ErrUnproven and ErrStripped are; a refusal is not, nor is a server that does
// not know how to go on.
var ErrSuspect = errors.New("somebody may be impersonating the server")

// suspicion is an error that is ErrSuspect.
type suspicion struct{ text string }

func (s *suspicion) Error() string { return s.text }

// Is reports whether target is ErrSuspect.
func (s *suspicion) Is(target error) bool { return target == ErrSuspect }

// Hint returns what the user can do about a login that a mechanism ended, as far
// as that is the same wherever it logs in; else "".
func Hint(err error) string {
	switch {
	case errors.Is(err, ErrSuspect):
		return "do not trust this network, or this server; the password was not sent"
	case errors.Is(err, ErrBinding):
		return "leave the mechanisms with -plus out of auth for this server"
	}
	return ""
}
