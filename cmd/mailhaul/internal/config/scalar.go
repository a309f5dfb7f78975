package config

import (
	"encoding/json"
	"regexp"
	"strings"
)

// plainScalar matches text that needs no quotes in YAML, in block and in flow style. Scalar
// knows the exceptions.
var plainScalar = regexp.MustCompile(`^[A-Za-z0-9~/._+-]([A-Za-z0-9~/._@:+= -]*[A-Za-z0-9~/._@+=-])?$`)

// Scalar returns s as a YAML string, in quotes only if it needs them.
func Scalar(s string) string {
	if plainScalar.MatchString(s) && !strings.Contains(s, ": ") && s != "~" && s != "-" && !strings.HasPrefix(s, "- ") && !strings.EqualFold(s, "null") {
		return s
	}
	var quoted strings.Builder // a JSON string is a YAML string
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)
	return strings.TrimSuffix(quoted.String(), "\n")
}

// List returns words as a YAML list in one line.
func List(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Scalar(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
