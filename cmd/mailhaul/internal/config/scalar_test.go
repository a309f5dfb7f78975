package config_test

import (
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// A file for people to read has no \u003e in it.
func TestScalar(t *testing.T) {
	for text, want := range map[string]string{"me": "me", "a > b": `"a > b"`, `<"&>`: `"<\"&>"`, "": `""`} {
		if got := config.Scalar(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
