package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxConfig bounds the file, maxFile those that a path in it can point to.
const (
	maxConfig = 16 << 20
	maxFile   = 1 << 20
)

// Load reads and checks the file at path. The error of a file with mistakes
// is an *Error, which names them all.
func Load(path string) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: is larger than %d MiB, too large for a configuration", path, maxConfig>>20)
	}
	// A pipe has no other readers: mailhaul --config <(...)
	return parse(path, data, info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0)
}

// Parse is Load of a file that is still to be written: data is what it is to
// hold, and only its owner will read it.
func Parse(path string, data []byte) (*Config, error) { return parse(path, data, false) }

// parse reads data as the file at path, which others may read if exposed.
func parse(path string, data []byte, exposed bool) (*Config, error) {
	p := &parser{
		file: path, dir: filepath.Dir(path), steps: 100_000 + len(data), sinkNodes: map[string]*yaml.Node{}, needsRoute: map[string]string{},
		places: map[string]string{}, paths: map[*yaml.Node]string{}, envNames: new([]string),
	}
	c := &Config{Path: path, Parallel: 8, PerHost: 2, Grace: 10 * time.Second}
	if root := p.tree(data); root != nil {
		p.top(*root, c)
		c.said = said{*root, p.paths}
	}
	c.secretEnv = *p.envNames
	if p.secretLine > 0 && exposed {
		p.fail(value{line: p.secretLine}, "chmod 600 "+path, "the file holds a password and others can read it")
	}
	if err := p.failure(); err != nil {
		return nil, err
	}
	return c, nil
}

// tree returns the mapping at the top of data, nil if there is none.
func (p *parser) tree(data []byte) *value {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF), err == nil && isNull(doc.Content[0]):
		p.fail(value{}, "it needs sinks: and accounts:", "the file is empty")
		return nil
	case err != nil:
		p.syntax(data, err)
		return nil
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		p.fail(value{line: next.Line}, "keep one", "a second document starts here (---)")
	case !errors.Is(err, io.EOF):
		p.syntax(data, err)
	}
	root := follow(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		p.fail(value{line: root.Line}, "it needs sinks: and accounts:", "the file is not a mapping")
		return nil
	}
	return &value{node: root, line: root.Line}
}

var lineOf = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// syntax records an error of the YAML parser. Its text may quote the file,
// which may be a password, so whatever is quoted is left out.
func (p *parser) syntax(data []byte, err error) {
	m := lineOf.FindStringSubmatch(err.Error())
	line, text := 0, "is not YAML"
	var hint string
	if m[2] != "" {
		text = m[2]
	}
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
	}
	switch lines := bytes.Split(data, []byte("\n")); {
	case strings.Contains(text, "UTF-8"):
		line = 1 + slices.IndexFunc(lines, func(l []byte) bool { return !utf8.Valid(l) })
		text, hint = "is not UTF-8", "save the file in that encoding"
	case strings.Contains(text, "unknown anchor"):
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "unknown anchor '"), "'")
		line = 1 + slices.IndexFunc(lines, func(l []byte) bool { return bytes.Contains(l, []byte("*"+name)) })
		text, hint = "an alias (*name) has no anchor (&name)", "quote a value that starts with *"
	case line > 0 && line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[line-1], " "), []byte("\t")):
		hint = "indent with spaces, not tabs"
	case strings.Contains(text, "mapping values are not allowed"):
		hint = "quote a value that holds a colon and a space; keys of one mapping are indented alike"
	case strings.Contains(text, "cannot start any token"):
		hint = "quote a value that starts with @, ` or %"
	case strings.ContainsAny(text, "\"'`"):
		text, hint = "is not YAML", "quote values that hold more than letters and digits"
	}
	p.fail(value{line: line}, hint, "%s", text)
}
