package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/statefile"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// JSON output escapes what could control a terminal.
func TestJSONForTerminals(t *testing.T) {
	const uid = "\u009b2J\x7f\x1b[2J\u202etxt.exe"
	for name, write := range map[string]func(out *bytes.Buffer) error{
		"the log": func(out *bytes.Buffer) error {
			newJSONReporter(stdio{err: out}, true).observe(fetch.Refused{Account: "ada", UID: uid})
			return nil
		},
		"a command": func(out *bytes.Buffer) error { return writeJSON(out, refusedJSON{UID: uid}) },
		"an export": func(out *bytes.Buffer) error {
			w := statefile.NewWriter(out)
			return errors.Join(w.Write(state.Export{Account: "ada", Messages: []state.Message{{Row: state.Row{UID: uid}}}}), w.Close())
		},
	} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(out.String(), `"\u009b2J\u007f\u001b[2J\u202etxt.exe"`) ||
			strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}
