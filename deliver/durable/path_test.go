package durable_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

func TestEscapePath(t *testing.T) {
	all := []byte("/")
	for c := range 256 {
		all = append(all, byte(c))
	}
	for _, path := range []string{"/", "/home/me/Maildir", "/a b/100%/%41/+", "/\xff\xfe/é", string(all)} {
		escaped := durable.EscapePath(path)
		b, err := json.Marshal(escaped)
		if err != nil || len(b) != len(escaped)+2 || strings.ContainsFunc(escaped, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q becomes %s in JSON, %v", path, b, err)
		}
		if got, ok := durable.UnescapePath(escaped); got != path || !ok {
			t.Errorf("%q came back as %q, %v", path, got, ok)
		}
	}
	for _, bad := range []string{"", "a", "/%", "/%zz"} {
		if path, ok := durable.UnescapePath(bad); ok {
			t.Errorf("UnescapePath(%q) = %q", bad, path)
		}
	}
}
