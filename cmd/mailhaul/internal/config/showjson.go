package config

import (
	"bytes"
	"encoding/json"
	"strconv"

	"gopkg.in/yaml.v3"
)

// writeJSON writes a tree as JSON, and keeps the order of its keys.
func writeJSON(out *bytes.Buffer, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			writeString(out, n.Content[i].Value)
			out.WriteByte(':')
			writeJSON(out, n.Content[i+1])
		}
		out.WriteByte('}')
		return
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSON(out, item)
		}
		out.WriteByte(']')
		return
	}
	// A quoted text stays a string, and so does a number that JSON would change, such
	// as 0600 or 1.0.
	if n.Tag != "!!str" {
		_, err := strconv.ParseInt(n.Value, 10, 64)
		number := err == nil && (n.Value[0] != '0' || n.Value == "0") && n.Value[0] != '+'
		if number || n.Value == "true" || n.Value == "false" {
			out.WriteString(n.Value)
			return
		}
	}
	writeString(out, n.Value)
}

func writeString(out *bytes.Buffer, s string) {
	text, _ := json.Marshal(s) // cannot fail for a string
	out.Write(text)
}
