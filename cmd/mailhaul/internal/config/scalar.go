package config

import (
	"encoding/json"
	"regexp"
	"strings"
)

// bare is text that YAML takes as it is, wherever it stands.
var plainScalar = regexp.MustCompile(`^[A-Za-z0-9~/._+-]([A-Za-z0-9~/._@:+= -]*[A-Za-z0-9~/._@+=-])?$`)

// Scalar writes a text in YAML, as a person would: in quotes only where it needs them.
func Scalar(s string) string {
	if plainScalar.MatchString(s) && !strings.Contains(s, ": ") && s != "~" && s != "-" && !strings.HasPrefix(s, "- ") && !strings.EqualFold(s, "null") {
		return s
	}
	var quoted strings.Builder // YAML knows what JSON does in quotes
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)
	return strings.TrimSuffix(quoted.String(), "\n")
}

// List writes a list of texts in YAML, in one line.
func List(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Scalar(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
