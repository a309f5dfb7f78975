package mech

import "errors"

// login is LOGIN (draft-murchison-sasl-login-00). It has no standard, and the text of
// the two challenges varies or is empty, so only their order counts.
type login struct {
	user, password string
	challenges     int // received so far
}

func (l *login) Start() (name string, initial []byte, err error) { return "LOGIN", nil, nil }

func (l *login) Next([]byte) ([]byte, error) {
	l.challenges++
	switch l.challenges {
	case 1:
		return []byte(l.user), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, errors.New("LOGIN: " + unexpectedChallenge)
}

// HasResponse reports whether there is another response to send, whatever the challenge is.
func (l *login) HasResponse() bool { return l.challenges < 2 }
