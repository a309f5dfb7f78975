package oneline_test

import (
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

func TestOf(t *testing.T) {
	for text, want := range map[string]string{
		"Grüße, 日本":              "Grüße, 日本",
		"one\ntwo":               "one; two",
		"\x1b[2J\r\a\x7f\u009bx": "?[2J????x",
		"\xff\xfe":               "??",
		"abc\u202etxt.exe\u2066": "abctxt.exe",
	} {
		if got := oneline.Of(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
