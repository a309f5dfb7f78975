package config_test

import (
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// Scalar does not escape <, > and &, as package json does by default.
func TestScalar(t *testing.T) {
	for text, want := range map[string]string{"me": "me", "a > b": `"a > b"`, `<"&>`: `"<\"&>"`, "": `""`} {
		if got := config.Scalar(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
