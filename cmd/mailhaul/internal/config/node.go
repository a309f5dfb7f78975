package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// parser walks the tree of a file and collects what is wrong with it.
type parser struct {
	file         string
	dir          string // that paths in it are relative to
	problems     []Problem
	nodesLeft    int                   // left before the file is taken for an alias bomb
	sinkNames    []string              // the names of all sinks
	sinkNodes    map[string]*yaml.Node // by those names
	oauthClients map[string]*OAuth
	// needsRoute holds, by the names of sinks that do not say for whom the
	// mail is, the key that would.
	recipientKey map[string]string
	// places holds, by the names of sinks, the file or folder that they write to.
	sinkPaths map[string]string
	// secretLine is where the first password stands in the file, 0 if none
	// does.
	secretLine int
	// envNames are the variables that hold secrets.
	secretVars *[]string
	// inTurn has commands of secrets run one at a time.
	serialCommands *bool
	display        map[nodeKey]string // the paths and secrets that were read, as they are shown
}

// value is a node of the tree with the words for where it stands.
type value struct {
	node  *yaml.Node // never an alias
	line  int
	where string // "account work: keep"; empty at the top
}

// spot is where a value stands. The same node may stand under another key, by an
// alias.
type nodeKey struct {
	node *yaml.Node
	key  string
}

func (v value) nodeKey() nodeKey { return nodeKey{v.node, v.where[strings.LastIndex(v.where, " ")+1:]} }

// fail records a mistake in v.
func (p *parser) fail(v value, hint, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if v.where != "" {
		text = v.where + ": " + text
	}
	p.problems = append(p.problems, Problem{Line: v.line, Text: text, Hint: hint})
}

// follow returns the node that n stands for.
func resolveAlias(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// child returns the value at n, which stands under v by the name of key.
func (v value) child(key string, n *yaml.Node) value {
	where := key
	if v.where != "" {
		where = v.where + ": " + key
	}
	return value{node: resolveAlias(n), line: n.Line, where: where}
}

// entry is a key of a mapping.
type entry struct {
	key   string
	line  int // of the key
	value value
}

// entries returns the keys of a mapping in the order of the file, merges (<<)
// resolved. A mapping that is left empty has none.
func (p *parser) entries(v value) []entry {
	if isNull(v.node) {
		return nil
	}
	if v.node.Kind != yaml.MappingNode {
		p.fail(v, "write it as key: value lines, indented below", "is not a mapping")
		return nil
	}
	return p.mergedEntries(v, v.node, 0)
}

// pairs reads one mapping and, after it, those it merges: its own keys win.
func (p *parser) mergedEntries(v value, n *yaml.Node, depth int) []entry {
	const deepest = 16
	if p.nodesLeft -= 1 + len(n.Content); p.nodesLeft < 0 || depth > deepest {
		p.fail(v, "write it out", "too many aliases")
		return nil
	}
	var out []entry
	var merged []*yaml.Node
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := resolveAlias(n.Content[i]), n.Content[i+1]
		line := n.Content[i].Line
		if k.Kind != yaml.ScalarNode {
			p.fail(value{line: line, where: v.where}, "", "a key must be a word")
			continue
		}
		if k.Tag == "!!merge" {
			if val = resolveAlias(val); val.Kind == yaml.SequenceNode {
				merged = append(merged, val.Content...)
			} else {
				merged = append(merged, val)
			}
			continue
		}
		if secret := secretCutByComma(n, i); secret != "" {
			p.fail(value{line: line, where: v.where}, "quote a value that holds a comma", "%s ends at a comma, and no key follows", secret)
			continue
		}
		// In a block the colon and the space are there, and it is a key, if a strange one.
		if name, glued := splitGluedKey(k.Value); glued && hasNoValue(val) && n.Style&yaml.FlowStyle != 0 {
			p.fail(value{line: line, where: v.where}, "write key: value, with a space after the colon", "%s has no value", quote(name))
			continue
		}
		if was, ok := first[k.Value]; ok {
			p.fail(value{line: line, where: v.where}, "", "key %s appears twice, first on line %d", quoteKey(k.Value), was)
			continue
		}
		first[k.Value] = line
		out = append(out, entry{k.Value, line, v.child(k.Value, val)})
	}
	for _, m := range merged {
		if m = resolveAlias(m); m.Kind != yaml.MappingNode {
			p.fail(value{line: n.Line, where: v.where}, "", "only a mapping can be merged by <<")
			continue
		}
		for _, e := range p.mergedEntries(v, m, depth+1) {
			if _, ok := first[e.key]; !ok {
				first[e.key] = e.line
				out = append(out, e)
			}
		}
	}
	return out
}

// cutSecret returns the key of the secret that the key at i of a mapping seems to
// be a part of, "" if it is not: in { password: one,two } the key two has no value.
// It is not to be repeated.
func secretCutByComma(n *yaml.Node, i int) string {
	if n.Style&yaml.FlowStyle == 0 {
		return ""
	}
	for ; i >= 2 && hasNoValue(n.Content[i+1]); i -= 2 {
		if name, _ := splitGluedKey(n.Content[i-2].Value); secretKeys[name] {
			return name
		}
	}
	return ""
}

// alone reports whether nothing stands behind a key.
func hasNoValue(n *yaml.Node) bool { return isNull(n) && n.Value == "" }

// cutValue cuts off what was meant to be the value of a key: to YAML all of
// password:secret is one. It may be a secret.
func splitGluedKey(key string) (name string, glued bool) {
	i := strings.IndexAny(key, ":= ")
	if i < 1 {
		return key, false
	}
	return key[:i], true
}

// cutPassword returns the key of the secret that a key begins with, and where that ends,
// if it goes on with anything but a letter: that may be the secret, as in password;secret
// or, on a line of its own, password secret. Else secret is "". It is for a key of ours,
// too, which stands twice or in the wrong place and is to be named.
func secretPrefix(key string) (secret string, end int) {
	for i, r := range key {
		if unicode.IsLetter(r) {
			continue
		}
		name := strings.ToLower(key[:i])
		if name = cmp.Or(foreignKeys[name], name); secretKeys[name] {
			switch key[i:] {
			case "_file", "_env", "_command", "_timeout", "_url":
				return "", 0
			}
			return name, i
		}
	}
	return "", 0
}

// quoteKey is quote for a key, without what may be a secret.
func quoteKey(key string) string {
	if secret, end := secretPrefix(key); secret != "" {
		key = key[:end] + "…"
	}
	return quote(key)
}

// secretNames are the keys of secrets. secretKeys adds to them. A token has none, but
// may be taken to have.
var secretKeys = map[string]bool{"token": true}

// keys says how each key of a mapping is read into a T.
type keyReaders[T any] map[string]func(p *parser, v value, into *T)

func (k keyReaders[T]) with(more keyReaders[T]) keyReaders[T] {
	all := maps.Clone(k)
	maps.Copy(all, more)
	return all
}

// read reads the mapping v by the keys it may hold. It returns the lines of
// those that were there, or were meant to be.
func readMapping[T any](p *parser, v value, known keyReaders[T], into *T) map[string]int {
	lines := map[string]int{}
	for _, e := range p.entries(v) {
		set, ok := known[e.key]
		if !ok {
			meant, hint := didYouMean(e.key, slices.Sorted(maps.Keys(known)))
			if secret, end := secretPrefix(e.key); secret != "" && meant == "" && e.key[end] != '_' {
				meant, hint = secret, "write key: value, with a space after the colon"
			}
			p.fail(value{line: e.line, where: v.where}, hint, "unknown key %s", quoteKey(e.key))
			if meant != "" && lines[meant] == 0 {
				lines[meant] = e.line
			}
			continue
		}
		lines[e.key] = e.line
		set(p, e.value, into)
	}
	return lines
}

// isNone reports whether it undoes what the defaults say.
func isNone(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && strings.EqualFold(n.Value, "none")
}

// isNull reports whether nothing was written.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
