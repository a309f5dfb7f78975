package config

import (
	"bytes"
	"cmp"
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

// yamlErrorPattern splits an error of the YAML library into its line and its text.
var yamlErrorPattern = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// failSyntax records err, an error of the YAML library in data, with a hint. The text of
// err may quote a part of the file, perhaps a password. Such text is not repeated.
func (p *parser) failSyntax(data []byte, err error) {
	m := yamlErrorPattern.FindStringSubmatch(err.Error())
	line, text, hint := 0, cmp.Or(m[2], "is not YAML"), ""
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
	}
	lines := bytes.Split(data, []byte("\n"))
	if strings.HasPrefix(text, notFoundPrefix) || strings.Contains(text, "tab character") {
		line = findErrorLine(lines, err, line)
	}
	start := byte(0) // the first byte of the line after its indentation
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

// notFoundPrefix begins an error of the YAML library about something that is missing.
// The rest names what it expected, and never quotes the file.
const notFoundPrefix = "did not find expected "

// explainMissing returns an error that begins with notFoundPrefix without its quotes, and
// a hint. start is the first byte of the line after its indentation.
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

// findErrorLine returns the line that causes err: the last line of the shortest beginning
// of the file that has the same error. The line that the YAML library reports is often
// an earlier one, where the mapping or list around the mistake begins.
func findErrorLine(lines [][]byte, err error, reported int) int {
	const maxSize = 1 << 20 // parsing parts of a larger file again and again takes too long
	size := 0
	for _, l := range lines {
		size += len(l) + 1
	}
	if size > maxSize {
		return reported
	}
	return 1 + sort.Search(len(lines)-1, func(i int) bool {
		found := firstYAMLError(bytes.Join(lines[:i+1], []byte("\n")))
		return found != nil && found.Error() == err.Error()
	})
}

// firstYAMLError returns the first error in data, nil if there is none.
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
