package main

import (
	"testing"
)

// Colours are for terminals, unless NO_COLOR is set.
func TestColour(t *testing.T) {
	for _, test := range []struct {
		terminal bool
		noColour string
		want     string
	}{{true, "", "\x1b[31mx\x1b[0m"}, {true, "1", "x"}, {false, "", "x"}} {
		t.Setenv("NO_COLOR", test.noColour)
		t.Setenv("TERM", "xterm")
		if got := painter(test.terminal)(red, "x"); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}
