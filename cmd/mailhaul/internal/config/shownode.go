package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maskedSecret is shown instead of a secret.
const maskedSecret = "***"

// EscapePath returns a path as a configuration has it, where $ begins a variable.
func EscapePath(path string) string { return strings.ReplaceAll(path, "$", "$$") }

// textNode returns a string. The encoder quotes it if YAML would take it for another type.
func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// textNodes returns a string, or a list of several.
func textNodes(all []string) *yaml.Node {
	if len(all) == 1 {
		return textNode(all[0])
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range all {
		list.Content = append(list.Content, textNode(s))
	}
	return list
}

// defaultNodes returns the defaults of a table by key.
func defaultNodes(table []shownKey) map[string]*yaml.Node {
	all := map[string]*yaml.Node{}
	for _, k := range table {
		if k.defaultText != "" {
			all[k.key] = &yaml.Node{Kind: yaml.ScalarNode, Value: k.defaultText}
		}
	}
	return all
}

// mappingNode returns a mapping of nodes, which may be nil, in the order of a table.
func mappingNode(nodes map[string]*yaml.Node, table []shownKey) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range table {
		if node := nodes[k.key]; node != nil {
			appendEntry(m, k.key, node)
		}
	}
	return m
}

// appendEntry adds a key to a mapping.
func appendEntry(m *yaml.Node, key string, v *yaml.Node) {
	m.Content = append(m.Content, textNode(key), v)
}

// removeEntry removes a key from a mapping.
func removeEntry(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}
