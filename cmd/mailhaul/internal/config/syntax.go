package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

var yamlErrorPattern = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// syntax records an error of the YAML parser. Its text may quote the file,
// which may be a password, so whatever is quoted is left out.
func (p *parser) failSyntax(data []byte, err error) {
	m := yamlErrorPattern.FindStringSubmatch(err.Error())
	line, text := 0, "is not YAML"
	var hint string
	if m[2] != "" {
		text = m[2]
	}
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
	}
	lines := bytes.Split(data, []byte("\n"))
	if strings.HasPrefix(text, notFoundPrefix) || strings.Contains(text, "tab character") {
		line = findErrorLine(lines, err, line)
	}
	start := byte(0) // what the line begins with
	if line > 0 && line <= len(lines) {
		start = append(bytes.TrimLeft(lines[line-1], " "), 0)[0]
	}
	switch {
	case strings.Contains(text, "UTF-8"):
		line = 1 + slices.IndexFunc(lines, func(l []byte) bool { return !utf8.Valid(l) })
		text, hint = "is not UTF-8", "save the file in that encoding"
	case strings.Contains(text, "unknown anchor"):
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "unknown anchor '"), "'")
		line = 1 + slices.IndexFunc(lines, func(l []byte) bool { return bytes.Contains(l, []byte("*"+name)) })
		text, hint = "an alias (*name) has no anchor (&name)", "quote a value that starts with *"
	case start == '\t':
		hint = "indent with spaces, not tabs"
	case strings.HasPrefix(text, notFoundPrefix):
		text, hint = explainMissing(text, start)
	case strings.Contains(text, "expected ':'"):
		text, hint = "is not YAML", "write key: value, with a space after the colon"
	case strings.Contains(text, "unexpected end of stream"):
		hint = "close the quote"
	case strings.Contains(text, "mapping values are not allowed"):
		hint = "quote a value that holds a colon and a space; keys of one mapping are indented alike"
	case strings.Contains(text, "cannot start any token"):
		hint = "quote a value that starts with @, ` or %"
	case strings.ContainsAny(text, "\"'`"):
		text, hint = "is not YAML", "quote values that hold more than letters and digits"
	}
	p.fail(value{line: line}, hint, "%s", text)
}

// unexpected begins what the YAML parser says where something else had to
// stand. What follows is words of its own, never of the file.
const notFoundPrefix = "did not find expected "

// missing says what had to stand in a line that begins with start, and what to
// do about it.
func explainMissing(text string, start byte) (plain, hint string) {
	switch what := strings.TrimPrefix(text, notFoundPrefix); {
	case what == "key" && start == '-':
		hint = "items of a list, which begin with -, are indented alike and do not stand beside keys"
	case what == "key":
		hint = "keys of one mapping are indented alike; a value that holds a quote, a bracket or a brace is quoted as a whole"
	case strings.Contains(what, "]"):
		hint = "close the [, and put commas between its items"
	case strings.Contains(what, "}"):
		hint = "close the {, and put commas between its entries; quote a value that holds a bracket or a brace"
	case strings.Contains(what, "'-'"):
		hint = "items of one list are indented alike"
	case what == "node content":
		hint = "quote a value that starts with , ] or }; close what [ or { opens"
	case strings.HasPrefix(what, "comment"):
		hint = "quote a value that starts with | or >"
	case strings.HasPrefix(what, "alphabetic"):
		hint = "quote a value that starts with & or *"
	}
	return strings.ReplaceAll(text, "'", ""), hint
}

// lineOfError returns the line by which the YAML parser comes to err: the last
// of as few as have that error. What the parser says itself, told, is the line
// where the mapping or list around it begins, or the line above that.
func findErrorLine(lines [][]byte, err error, told int) int {
	const most = 1 << 20 // of a larger file so many beginnings take too long
	size := 0
	for _, l := range lines {
		size += len(l) + 1
	}
	if size > most {
		return told
	}
	return 1 + sort.Search(len(lines)-1, func(i int) bool {
		found := firstYAMLError(bytes.Join(lines[:i+1], []byte("\n")))
		return found != nil && found.Error() == err.Error()
	})
}

// errorOf returns the first error that the YAML parser has, nil if there is
// none.
func firstYAMLError(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
