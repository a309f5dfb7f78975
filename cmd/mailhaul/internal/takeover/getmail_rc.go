package takeover

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// rcFile is a configuration file of getmail, which has the syntax of Python's
// RawConfigParser: no interpolation. It keeps the first mistake that is found in it.
type rcFile struct {
	sections []*rcSection
	err      error
}

// rcSection is a section of an rcFile.
type rcSection struct {
	file *rcFile
	name string
	keys []*rcKey
	used bool // whether the section was looked up
}

// rcKey is a key of an rcSection.
type rcKey struct {
	name, value string
	line        int
	used        bool // whether the key was looked up
}

// fail records a mistake, unless there is one already.
func (f *rcFile) fail(err error) { f.err = cmp.Or(f.err, err) }

// section returns a section, nil if there is none.
func (f *rcFile) section(name string) *rcSection {
	for _, s := range f.sections {
		if s.name == name {
			s.used = true
			return s
		}
	}
	return nil
}

// key returns a key, nil if there is none. A nil section has no keys.
func (s *rcSection) key(name string) *rcKey {
	if s == nil {
		return nil
	}
	for _, k := range s.keys {
		if k.name == name {
			k.used = true
			return k
		}
	}
	return nil
}

// ignoreKeys counts all keys of a section as looked up.
func (s *rcSection) ignoreKeys() {
	for _, k := range s.keys {
		k.used = true
	}
}

// The following return the value of a key, or zero if there is none or it is invalid,
// which is a mistake in the file.

func (s *rcSection) text(name string) string {
	k := s.key(name)
	if k == nil {
		return ""
	}
	if strings.Contains(k.value, "\n") {
		s.file.fail(k.invalid("has a second line: is that line indented by mistake?"))
		return ""
	}
	return k.value
}

// required is text for a key without which getmail refuses the file.
func (s *rcSection) required(name string) string {
	text := s.text(name)
	if text == "" {
		s.file.fail(fmt.Errorf("section [%s] has no %s", s.name, name))
	}
	return text
}

func (s *rcSection) boolean(name string, otherwise bool) bool {
	k := s.key(name)
	if k == nil {
		return otherwise
	}
	switch strings.ToLower(k.value) {
	case "1", "yes", "true", "on":
		return true
	case "0", "no", "false", "off":
		return false
	}
	s.file.fail(k.invalid("is neither true nor false"))
	return false
}

func (s *rcSection) number(name string) int64 {
	k := s.key(name)
	if k == nil {
		return 0
	}
	n, err := strconv.ParseInt(k.value, 10, 64)
	if err != nil {
		s.file.fail(k.invalid("is not a whole number"))
		return 0
	}
	return n
}

// tuple returns the strings and numbers in a tuple, as strings.
func (s *rcSection) tuple(name string) (all []string) {
	for _, item := range s.items(name) {
		switch item := item.(type) {
		case string:
			all = append(all, item)
		case int:
			all = append(all, strconv.Itoa(item))
		default:
			s.file.fail(s.key(name).invalid("is not a tuple of strings"))
			return nil
		}
	}
	return all
}

// items returns the values in a tuple, see pythonParser.value.
func (s *rcSection) items(name string) []any {
	k := s.key(name)
	if k == nil || k.value == "" {
		return nil
	}
	p := pythonParser{text: k.value}
	v, err := p.value(0)
	p.skip()
	items, ok := v.([]any)
	switch {
	case err != nil:
		s.file.fail(k.invalid(err.Error()))
	case p.at < len(p.text) || !ok:
		s.file.fail(k.invalid(`is not a tuple, such as ("one", "two") or ("one", )`))
	default:
		return items
	}
	return nil
}

// invalid returns an error about a key, without its value, which may be a secret.
func (k *rcKey) invalid(text string) error {
	return fmt.Errorf("line %d: %s %s", k.line, k.name, text)
}

var (
	rcHeader = regexp.MustCompile(`^\[(.+)\]`)
	rcOption = regexp.MustCompile(`^(.*?)\s*[=:]\s*(.*)$`)
)

// parseRC parses a file.
func parseRC(text string) (*rcFile, error) {
	f := &rcFile{}
	var key *rcKey
	indent, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n\v\f")
		inner := strings.TrimLeft(line, " \t\v\f")
		header := rcHeader.FindStringSubmatch(inner)
		option := rcOption.FindStringSubmatch(inner)
		switch at := len(line) - len(inner); {
		case !utf8.ValidString(line):
			return nil, fmt.Errorf("line %d is not UTF-8: iconv makes it so", n)
		case inner == "" && key != nil:
			key.value += "\n"
			continue
		case inner == "" || inner[0] == '#' || inner[0] == ';':
			continue
		case key != nil && at > indent:
			key.value += "\n" + inner
			continue
		case header != nil:
			name := header[1]
			if slices.ContainsFunc(f.sections, func(s *rcSection) bool { return s.name == name }) {
				return nil, fmt.Errorf("line %d: section %s appears twice", n, name)
			}
			f.sections, key = append(f.sections, &rcSection{file: f, name: name}), nil
			indent = at
		case len(f.sections) == 0:
			return nil, fmt.Errorf("line %d stands before the first section, such as [retriever]", n)
		case option == nil || option[1] == "":
			return nil, fmt.Errorf("line %d is neither a section nor name = value", n)
		default:
			last, name := f.sections[len(f.sections)-1], strings.ToLower(option[1])
			if slices.ContainsFunc(last.keys, func(k *rcKey) bool { return k.name == name }) {
				return nil, fmt.Errorf("line %d: %s appears twice in section %s", n, name, last.name)
			}
			key = &rcKey{name: name, value: option[2], line: n}
			last.keys = append(last.keys, key)
			indent = at
		}
	}
	for _, s := range f.sections {
		for _, k := range s.keys {
			k.value = strings.TrimRight(k.value, "\n")
		}
	}
	return f, nil
}
