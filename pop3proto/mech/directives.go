package mech

import (
	"errors"
	"strings"
)

// directives are the directives of a DIGEST-MD5 challenge: lower-case names with
// their values (RFC 2831 §2.1.1, §7.1).
type directives map[string][]string

// single returns the value of a directive, or "" if it is missing or repeated.
func (d directives) single(name string) string {
	if len(d[name]) != 1 {
		return ""
	}
	return d[name][0]
}

// offersAuth reports whether the server offers authentication without a security
// layer, which is the default.
func (d directives) offersAuth() bool {
	if d["qop"] == nil {
		return true
	}
	for option := range strings.SplitSeq(d.single("qop"), ",") {
		if strings.EqualFold(strings.TrimSpace(option), "auth") {
			return true
		}
	}
	return false
}

var errDirectives = errors.New("the server's challenge does not follow RFC 2831")

// parseDirectives parses a comma-separated list of name=value or name="value". There
// may be empty elements, and blanks around each.
func parseDirectives(s string) (directives, error) {
	d := make(directives)
	for {
		s = strings.TrimLeft(s, " \t\r\n,")
		if s == "" {
			return d, nil
		}
		name, rest, ok := strings.Cut(s, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" {
			return nil, errDirectives
		}
		var value string
		rest = strings.TrimLeft(rest, " \t\r\n")
		if strings.HasPrefix(rest, `"`) {
			if value, s, ok = cutQuoted(rest); !ok {
				return nil, errDirectives
			}
			s = strings.TrimLeft(s, " \t\r\n")
			if s != "" && s[0] != ',' {
				return nil, errDirectives
			}
		} else {
			value, s, _ = strings.Cut(rest, ",")
			value = strings.TrimRight(value, " \t\r\n")
		}
		d[name] = append(d[name], value)
	}
}

// cutQuoted splits s into the value of the quoted string that it begins with and the
// rest. In the quoted string, a backslash escapes the next byte.
func cutQuoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			i++
			if i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
