package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	maxConfig = 16 << 20 // bytes of the configuration file
	maxFile   = 1 << 20  // bytes of a file of certificates or keys that it names
)

// Load reads and checks the file at path. If it has mistakes, the error is an
// *Error that names all of them.
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
	dir := filepath.Dir(path)
	// --config <(...) gives a pipe: no folder that paths could be relative to, and
	// nobody else who could read it.
	if dir == "/dev" || dir == "/dev/fd" || dir == "/proc/self/fd" {
		dir = ""
	}
	readableByOthers := info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
	return parse(path, dir, data, readableByOthers)
}

// Parse checks data as Load would if it were the file at path and readable by
// its owner only. It is for a file that is still to be written.
func Parse(path string, data []byte) (*Config, error) {
	return parse(path, filepath.Dir(path), data, false)
}

// parse reads data as the file at path. Relative paths in it are relative to dir;
// if dir is empty, they are mistakes.
func parse(path, dir string, data []byte, readableByOthers bool) (*Config, error) {
	p := &parser{
		file: path, dir: dir, nodesLeft: 100_000 + len(data), sinkNodes: map[string]*yaml.Node{}, recipientKey: map[string]string{},
		sinkPaths: map[string]string{}, display: map[nodeKey]string{}, secrets: new(secretSettings),
	}
	c := &Config{Path: path, Parallel: 8, PerHost: 2, Grace: 10 * time.Second, secrets: p.secrets}
	if root := p.parseYAML(data); root != nil {
		p.readTop(*root, c)
		c.root, c.display = *root, p.display
	}
	if p.secretLine > 0 && readableByOthers {
		p.fail(value{line: p.secretLine}, "chmod 600 "+path, "the file holds a password and others can read it")
	}
	if err := p.failure(); err != nil {
		return nil, err
	}
	return c, nil
}

// parseYAML returns the mapping at the top of data. If there is none, it records
// why and returns nil.
func (p *parser) parseYAML(data []byte) *value {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF), err == nil && isNull(doc.Content[0]):
		p.fail(value{}, "it needs sinks: and accounts:", "the file is empty")
		return nil
	case err != nil:
		p.failSyntax(data, err)
		return nil
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		p.fail(value{line: next.Line}, "keep one", "a second document starts here (---)")
	case !errors.Is(err, io.EOF):
		p.failSyntax(data, err)
	}
	root := resolveAlias(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		p.fail(value{line: root.Line}, "it needs sinks: and accounts:", "the file is not a mapping")
		return nil
	}
	return &value{node: root, line: root.Line}
}
