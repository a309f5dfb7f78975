package manual

import (
	"regexp"
	"slices"
	"strings"
)

// Config returns mailhaul.yaml(5), from the example configuration, whose comments explain
// each option. The example follows these rules:
//
//   - a comment describes the key below it, and the keys that follow directly without a
//     comment of their own
//   - a key may be commented out, below another key or a comment that describes it
//   - a comment before an empty line belongs to no key
//   - indented lines of a comment are literal, and so are those that begin with a word and
//     a colon
func Config(example []byte) string {
	p := newPage("mailhaul.yaml", 5, "configuration of mailhaul")
	root := parse(string(example))
	p.line(".Sh DESCRIPTION")
	p.paragraphs(root.below[0].about)
	p.line(".Pp")
	p.text("Each option is shown with a value as an example.")
	p.line(".Sh GENERAL OPTIONS")
	p.items(leaves(root.below[1:]))
	for _, n := range root.below[1:] {
		if len(n.below) > 0 {
			p.section(n)
		}
	}
	p.line(".Sh FILES")
	p.line(".Bl -tag -width Ds")
	p.line(".It Pa %s", escape("~/.config/mailhaul/config.yaml"))
	p.text("The configuration, unless `--config` or MAILHAUL_CONFIG names another.")
	p.line(".El")
	p.line(".Sh SEE ALSO")
	p.line(".Xr mailhaul 1")
	return p.String()
}

// section writes a section for a top-level key and all keys below it.
func (p *page) section(n *node) {
	p.line(".Sh %s", escape(strings.ToUpper(n.key)))
	p.paragraphs(n.about)
	p.items(leaves(n.below))
	for _, sub := range n.below {
		if len(sub.below) == 0 {
			continue
		}
		p.line(".Ss %s", escape(sub.key))
		p.description(sub)
		p.items(sub.below)
	}
}

// leaves returns the nodes without keys below them.
func leaves(all []*node) []*node {
	return slices.DeleteFunc(slices.Clone(all), func(n *node) bool { return len(n.below) > 0 })
}

// items writes the keys of a mapping as a list.
func (p *page) items(all []*node) {
	for open := false; len(all) > 0; {
		n := all[0]
		all = all[1:]
		if n.key == "" { // a comment between keys
			if open {
				p.line(".El")
				open = false
			}
			if !isIndented(n.about[0]) {
				p.line(".Pp")
			}
			p.paragraphs(n.about)
			continue
		}
		if !open {
			p.line(".Bl -tag -width Ds")
			open = true
		}
		p.tag(n)
		for len(all) > 0 && n.describesNext() && all[0].isDescribedAbove() {
			p.tag(all[0])
			all = all[1:]
		}
		p.description(n)
		p.items(n.below)
		if len(all) == 0 {
			p.line(".El")
		}
	}
}

// tag writes the tag of a list item: a key with its value.
func (p *page) tag(n *node) {
	tag := `\fB` + escape(n.key) + `:\fP`
	if n.value != "" {
		tag += " " + escape(n.value)
	}
	p.line(`.It "%s"`, tag)
}

// description writes the comments above and behind a key.
func (p *page) description(n *node) {
	p.paragraphs(n.about)
	if n.behind != "" {
		p.text(toSentence(strings.TrimSuffix(n.behind, ".")))
	}
}

// node is a key of the example, or a comment that belongs to none.
type node struct {
	depth      int
	key, value string
	about      []string // the comment above the key
	behind     string   // the comment on the line of the key
	joined     bool     // whether it directly follows another key
	below      []*node
}

// isDescribedAbove reports whether the description of the key above applies to n.
func (n *node) isDescribedAbove() bool {
	return n.joined && len(n.about) == 0 && n.behind == "" && len(n.below) == 0
}

// describesNext reports whether the description of n may apply to the next key, too.
func (n *node) describesNext() bool { return n.behind == "" && len(n.below) == 0 }

var (
	keyLine = regexp.MustCompile(`^ *("[^"]+"|[^\s#:"]+):(?: +(.*?))?(?: +# (.*))?$`)
	// inComment matches a key that is commented out, without the #.
	inComment = regexp.MustCompile(`^([a-z0-9_]+):(?: +(.*?))?(?: +# (.*))?$`)
)

// parse parses the example into a tree. Its first child is the comment at the top.
func parse(example string) *node {
	root := &node{depth: -1}
	p := &parser{path: []*node{root}}
	for line := range strings.Lines(example) {
		p.parseLine(strings.TrimRight(line, "\n "))
	}
	return root
}

// parser builds the tree of an example, line by line.
type parser struct {
	path     []*node  // from the root to the last node
	comment  []string // may be about the key that follows
	depth    int      // of the last line of comment
	afterKey bool     // whether the line above holds a key
}

// last returns the last node.
func (p *parser) last() *node { return p.path[len(p.path)-1] }

// add adds a node below the last one that is less indented.
func (p *parser) add(n *node) {
	for p.last().depth >= n.depth {
		p.path = p.path[:len(p.path)-1]
	}
	p.last().below = append(p.last().below, n)
	p.path = append(p.path, n)
}

// addKey adds a key, which a match of keyLine or inComment holds.
func (p *parser) addKey(depth int, match []string) {
	p.add(&node{depth: depth, key: match[1], value: match[2], about: p.comment, behind: match[3], joined: p.afterKey})
	p.comment, p.afterKey = nil, true
}

func (p *parser) parseLine(line string) {
	words := strings.TrimLeft(line, " ")
	depth := len(line) - len(words)
	if line == "" {
		if len(p.comment) > 0 {
			p.add(&node{depth: p.depth, about: p.comment})
		}
		p.comment, p.afterKey = nil, false
		return
	}
	if comment, ok := strings.CutPrefix(words, "#"); ok {
		p.parseComment(depth, strings.TrimPrefix(comment, " "))
		return
	}
	if key := keyLine.FindStringSubmatch(line); key != nil {
		p.addKey(depth, key)
		return
	}
	p.last().value += " " + words // the value continues
}

// parseComment parses a line of a comment, without the # and the blank after it.
func (p *parser) parseComment(depth int, text string) {
	if p.afterKey && isIndented(text) { // literal text about the key above
		p.last().about = append(p.last().about, text)
		return
	}
	key := inComment.FindStringSubmatch(text)
	isDescribed := p.afterKey || len(p.comment) > 0 && !isIndented(p.comment[len(p.comment)-1])
	if key != nil && isDescribed { // a key that is commented out
		p.addKey(depth, key)
		return
	}
	if key != nil {
		text = "    " + text // the meaning of a value
	}
	p.comment, p.depth, p.afterKey = append(p.comment, text), depth, false
}
