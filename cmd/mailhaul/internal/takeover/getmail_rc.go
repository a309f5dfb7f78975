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

// getmailRC is a configuration file of getmail, which has the syntax of Python's
// RawConfigParser: no interpolation. It keeps the first mistake that is found in it.
type getmailRC struct {
	sections []*getmailSection
	err      error
}

// getmailSection is a section of a getmailRC.
type getmailSection struct {
	file *getmailRC
	name string
	keys []*getmailKey
	used bool // whether the section was looked up
}

// getmailKey is a key of a getmailSection.
type getmailKey struct {
	name, value string
	line        int
	used        bool // whether the key was looked up
}

// fail records a mistake, unless there is one already.
func (f *getmailRC) fail(err error) { f.err = cmp.Or(f.err, err) }

// section returns a section, nil if there is none.
func (f *getmailRC) section(name string) *getmailSection {
	for _, s := range f.sections {
		if s.name == name {
			s.used = true
			return s
		}
	}
	return nil
}

// key returns a key, nil if there is none. A nil section has no keys.
func (s *getmailSection) key(name string) *getmailKey {
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
func (s *getmailSection) ignoreKeys() {
	for _, k := range s.keys {
		k.used = true
	}
}

// The following return the value of a key, or zero if there is none or it is invalid,
// which is a mistake in the file.

func (s *getmailSection) text(name string) string {
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
func (s *getmailSection) required(name string) string {
	text := s.text(name)
	if text == "" {
		s.file.fail(fmt.Errorf("section [%s] has no %s", s.name, name))
	}
	return text
}

func (s *getmailSection) boolean(name string, otherwise bool) bool {
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

func (s *getmailSection) number(name string) int64 {
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
func (s *getmailSection) tuple(name string) (all []string) {
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
func (s *getmailSection) items(name string) []any {
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
func (k *getmailKey) invalid(text string) error {
	return fmt.Errorf("line %d: %s %s", k.line, k.name, text)
}

var (
	getmailHeader = regexp.MustCompile(`^\[(.+)\]`)
	getmailOption = regexp.MustCompile(`^(.*?)\s*[=:]\s*(.*)$`)
)

// parseGetmailRC parses a configuration file of getmail. The error has the line.
func parseGetmailRC(text string) (*getmailRC, error) {
	f := &getmailRC{}
	var key *getmailKey // which a line that is indented more than its own continues
	keyIndent, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n\v\f")
		inner := strings.TrimLeft(line, " \t\v\f")
		header := getmailHeader.FindStringSubmatch(inner)
		option := getmailOption.FindStringSubmatch(inner)
		switch indent := len(line) - len(inner); {
		case !utf8.ValidString(line):
			return nil, fmt.Errorf("line %d is not UTF-8: iconv makes it so", n)
		case inner == "" && key != nil:
			key.value += "\n"
			continue
		case inner == "" || inner[0] == '#' || inner[0] == ';':
			continue
		case key != nil && indent > keyIndent:
			key.value += "\n" + inner
			continue
		case header != nil:
			name := header[1]
			if slices.ContainsFunc(f.sections, func(s *getmailSection) bool { return s.name == name }) {
				return nil, fmt.Errorf("line %d: section %s appears twice", n, name)
			}
			f.sections = append(f.sections, &getmailSection{file: f, name: name})
			key = nil
		case len(f.sections) == 0:
			return nil, fmt.Errorf("line %d stands before the first section, such as [retriever]", n)
		case option == nil || option[1] == "":
			return nil, fmt.Errorf("line %d is neither a section nor name = value", n)
		default:
			last, name := f.sections[len(f.sections)-1], strings.ToLower(option[1])
			if slices.ContainsFunc(last.keys, func(k *getmailKey) bool { return k.name == name }) {
				return nil, fmt.Errorf("line %d: %s appears twice in section %s", n, name, last.name)
			}
			key = &getmailKey{name: name, value: option[2], line: n}
			last.keys = append(last.keys, key)
			keyIndent = indent
		}
	}
	for _, s := range f.sections {
		for _, k := range s.keys {
			k.value = strings.TrimRight(k.value, "\n")
		}
	}
	return f, nil
}
