package mech

import "errors"

// login is LOGIN (draft-murchison-sasl-login-00). It has no standard, and
// servers word the two questions as they like, or leave them empty: only
// their order counts.
type login struct {
	user, password string
	asked          int
}

func (l *login) Start() (name string, initial []byte, err error) { return "LOGIN", nil, nil }

func (l *login) Next([]byte) ([]byte, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.user), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, errors.New("LOGIN: " + tooMany)
}

// HasResponse reports whether there is another response to send, whatever the challenge is.
func (l *login) HasResponse() bool { return l.asked < 2 }
