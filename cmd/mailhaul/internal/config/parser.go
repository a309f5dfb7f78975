package config

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// parser walks the tree of a file and collects its mistakes.
type parser struct {
	file      string
	dir       string // that relative paths are relative to; empty if they are mistakes
	problems  []Problem
	nodesLeft int // how many more nodes are visited before the file counts as an alias bomb

	// The sinks and OAuth clients, by name. They are read before the accounts,
	// which refer to them.
	sinkNames    []string // in the order of the file
	sinkNodes    map[string]*yaml.Node
	sinkPaths    map[string]string // the file or folder that a sink writes to
	recipientKey map[string]string // the key that would set the recipient of a sink that has none
	oauthClients map[string]*OAuth

	secretLine int // the line of the first secret that the file itself holds; 0 if there is none
	secrets    *secretSettings
	display    map[nodeKey]string // the paths and secrets read so far, as YAML shows them
}

// value is a node of the tree and its place, for error messages.
type value struct {
	node  *yaml.Node // never an alias
	line  int
	where string // "account work: keep"; empty at the top
}

// nodeKey identifies a value. The node is not enough: by an alias, one node may
// be the value of several keys.
type nodeKey struct {
	node *yaml.Node
	key  string
}

func (v value) nodeKey() nodeKey { return nodeKey{v.node, v.where[strings.LastIndex(v.where, " ")+1:]} }

// at returns a place on another line of v, for a mistake there.
func (v value) at(line int) value { return value{line: line, where: v.where} }

// fail records a mistake in v. The hint says what to write instead; it may be
// empty.
func (p *parser) fail(v value, hint, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if v.where != "" {
		text = v.where + ": " + text
	}
	p.problems = append(p.problems, Problem{Line: v.line, Text: text, Hint: hint})
}

// child returns n as the value of a key of v.
func (v value) child(key string, n *yaml.Node) value {
	where := key
	if v.where != "" {
		where = v.where + ": " + key
	}
	return value{node: resolveAlias(n), line: n.Line, where: where}
}

// resolveAlias returns the node that n stands for: itself, unless it is an alias.
func resolveAlias(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// isNone reports whether n is the word none, which cancels a default.
func isNone(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && strings.EqualFold(n.Value, "none")
}

// isNull reports whether n is empty, null or ~.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
