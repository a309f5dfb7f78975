package config

import (
	"maps"
	"slices"

	"gopkg.in/yaml.v3"
)

// keyReaders says for each key that a mapping may have how its value is read into
// a T.
type keyReaders[T any] map[string]func(p *parser, v value, into *T)

// with returns a table with the keys of both.
func (k keyReaders[T]) with(more keyReaders[T]) keyReaders[T] {
	all := maps.Clone(k)
	maps.Copy(all, more)
	return all
}

// keyLines holds the line of each key that a mapping has.
type keyLines map[string]int

func (l keyLines) has(key string) bool { return l[key] > 0 }

// readMapping reads the mapping v into a T and returns its keys. A key that is
// obviously misspelt counts as the one that was meant, so that it is not reported
// as missing, too.
func readMapping[T any](p *parser, v value, known keyReaders[T], into *T) keyLines {
	lines := keyLines{}
	for _, e := range p.entries(v) {
		if readValue, ok := known[e.key]; ok {
			lines[e.key] = e.line
			readValue(p, e.value, into)
			continue
		}
		meant, hint := didYouMean(e.key, slices.Sorted(maps.Keys(known)))
		if secret, end := secretPrefix(e.key); secret != "" && meant == "" && e.key[end] != '_' {
			meant, hint = secret, "write key: value, with a space after the colon"
		}
		p.fail(v.at(e.line), hint, "unknown key %s", quoteKey(e.key))
		if meant != "" && !lines.has(meant) {
			lines[meant] = e.line
		}
	}
	return lines
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	line  int // of the key
	value value
}

// entries returns the keys of a mapping in the order of the file, with merges (<<)
// resolved. An empty value counts as a mapping without keys.
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

// mergedEntries returns the entries of the mapping n, which is at v, and then those
// of the mappings that it merges. A key of n hides the same key of these.
func (p *parser) mergedEntries(v value, n *yaml.Node, depth int) []entry {
	const maxDepth = 16
	if p.nodesLeft -= 1 + len(n.Content); p.nodesLeft < 0 || depth > maxDepth {
		p.fail(v, "write it out", "too many aliases")
		return nil
	}
	all, lines, merged := p.ownEntries(v, n)
	for _, m := range merged {
		if m = resolveAlias(m); m.Kind != yaml.MappingNode {
			p.fail(v.at(n.Line), "", "only a mapping can be merged by <<")
			continue
		}
		for _, e := range p.mergedEntries(v, m, depth+1) {
			if !lines.has(e.key) {
				lines[e.key] = e.line
				all = append(all, e)
			}
		}
	}
	return all
}

// ownEntries returns the entries of the mapping n itself, their lines, and the nodes
// that it merges.
func (p *parser) ownEntries(v value, n *yaml.Node) (own []entry, lines keyLines, merged []*yaml.Node) {
	lines = keyLines{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := resolveAlias(n.Content[i]), n.Content[i+1]
		at := v.at(n.Content[i].Line)
		switch {
		case k.Kind != yaml.ScalarNode:
			p.fail(at, "", "a key must be a word")
		case k.Tag == "!!merge":
			if val = resolveAlias(val); val.Kind == yaml.SequenceNode {
				merged = append(merged, val.Content...)
			} else {
				merged = append(merged, val)
			}
		case !p.checkKey(at, n, i, k.Value):
		case lines.has(k.Value):
			p.fail(at, "", "key %s appears twice, first on line %d", quoteKey(k.Value), lines[k.Value])
		default:
			lines[k.Value] = at.line
			own = append(own, entry{k.Value, at.line, v.child(k.Value, val)})
		}
	}
	return own, lines, merged
}

// checkKey checks that the key at n.Content[i] is not really a part of a value, or a
// key and a value without a space between them: {password: one,two} and {user:me}.
// Neither can happen in block style, where a key ends at a colon and a space.
func (p *parser) checkKey(at value, n *yaml.Node, i int, key string) bool {
	if n.Style&yaml.FlowStyle == 0 {
		return true
	}
	if secret := secretCutByComma(n, i); secret != "" {
		p.fail(at, "quote a value that holds a comma", "%s ends at a comma, and no key follows", secret)
		return false
	}
	if name, glued := splitGluedKey(key); glued && hasNoValue(n.Content[i+1]) {
		p.fail(at, "write key: value, with a space after the colon", "%s has no value", quote(name))
		return false
	}
	return true
}
