package mech

import (
	"fmt"
	"strings"
)

// OfferError means that the server offers no mechanism that can be used.
type OfferError struct {
	// Offered are the server's mechanisms, as it spells them.
	Offered []string
	// Allowed are those that the configuration allows; nil allows all but those
	// with Info.OnlyNamed.
	Allowed []string
}

// Error lists both.
func (e *OfferError) Error() string {
	s := "no common login mechanism: the server offers nothing"
	if len(e.Offered) > 0 {
		s = fmt.Sprintf("no common login mechanism: the server offers %.200s", strings.Join(e.Offered, ", "))
	}
	if e.Allowed != nil {
		s += ", auth allows " + strings.Join(e.Allowed, ", ")
	}
	return s
}
