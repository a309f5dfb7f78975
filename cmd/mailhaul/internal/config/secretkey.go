package config

import (
	"cmp"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// A small mistake in YAML can make a secret, or a piece of one, look like a key. The
// functions here find such keys, so that no error message repeats them.

// secretKeys are the keys whose values are secrets; secretReaders adds to them.
// There is no key token, but people write one.
var secretKeys = map[string]bool{"token": true}

// secretCutByComma returns the key of the secret whose value seems to go on at the
// key n.Content[i], "" if there is none: in { password: one,two }, two is a key
// without a value. It must not be repeated in a message.
func secretCutByComma(n *yaml.Node, i int) string {
	for ; i >= 2 && hasNoValue(n.Content[i+1]); i -= 2 {
		if name, _ := splitGluedKey(n.Content[i-2].Value); secretKeys[name] {
			return name
		}
	}
	return ""
}

// hasNoValue reports whether nothing was written as the value n of a key.
func hasNoValue(n *yaml.Node) bool { return isNull(n) && n.Value == "" }

// splitGluedKey cuts off what was meant to be the value of a key, and may be a
// secret: to YAML, all of password:secret is a key.
func splitGluedKey(key string) (name string, glued bool) {
	i := strings.IndexAny(key, ":= ")
	if i < 1 {
		return key, false
	}
	return key[:i], true
}

// secretPrefix returns the key of a secret that a longer key begins with, and where
// it ends, if no letter follows. The rest may be the secret, as in password;secret
// or, on a line of its own, password secret. For other keys, and for valid ones such
// as password_file, secret is "".
func secretPrefix(key string) (secret string, end int) {
	for i, r := range key {
		if unicode.IsLetter(r) {
			continue
		}
		name := strings.ToLower(key[:i])
		if name = cmp.Or(foreignKeys[name], name); secretKeys[name] {
			switch key[i:] {
			case "_file", "_env", "_command", "_timeout", "_url":
				return "", 0
			}
			return name, i
		}
	}
	return "", 0
}

// quoteKey is quote for a key, and leaves out what may be a secret.
func quoteKey(key string) string {
	if secret, end := secretPrefix(key); secret != "" {
		key = key[:end] + "…"
	}
	return quote(key)
}
