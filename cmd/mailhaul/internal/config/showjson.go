package config

import (
	"bytes"
	"encoding/json"
	"strconv"

	"gopkg.in/yaml.v3"
)

// writeJSON writes a tree in the order that it has.
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
	// Text stays text if it was quoted, or if a number of JSON would be
	// another: 0600, 1.0.
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
	text, _ := json.Marshal(s) // of a string it never fails
	out.Write(text)
}
