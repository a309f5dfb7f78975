package oneline_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		"Grüße, 日本\n\"\\":                `"Grüße, 日本\n\"\\"`,
		"\x1b[2J\x7f\u009b31m":           `"\u001b[2J\u007f\u009b31m"`,
		"abc\u202etxt\u2066\u2028\ufeff": `"abc\u202etxt\u2066\u2028\ufeff"`,
		"\U000e0041b":                    `"\udb40\udc41b"`,
		"\U0001f600":                     `"` + "\U0001f600" + `"`,
	} {
		var out bytes.Buffer
		if err := json.NewEncoder(oneline.JSON(&out)).Encode(text); err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != text || out.String() != want+"\n" {
			t.Errorf("%q became %s, and then %q, %v", text, out.String(), back, err)
		}
	}
}
