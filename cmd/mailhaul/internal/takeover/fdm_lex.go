package takeover

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// fdmLexer splits an fdm.conf, and the files that it includes, into tokens.
type fdmLexer struct {
	home   string
	files  []*fdmFile        // the last one is read; it was included by the one before
	peeked *fdmToken         // the token that comes next, nil until it is read
	macros map[string]string // by name, with $ or %
	depth  int               // of ifdef
	skip   int               // the depth from which on tokens are skipped; 0 for none
	err    error             // from then on, the end comes next
}

// fdmCommand begins a value that is what a command prints. None is run: the command
// follows, unless its output is only part of the value.
const fdmCommand = "\x00"

// joinFdm joins two parts of a value.
func joinFdm(a, b string) string {
	if a != "" && b != "" && strings.Contains(a+b, fdmCommand) {
		return fdmCommand
	}
	return a + b
}

// fdmToken is a token of an fdm.conf.
type fdmToken struct {
	// kind is one of these, $ or % for the name of a macro, or the character of which the
	// token consists.
	kind byte
	text string
}

const (
	fdmEnd         = 0
	fdmWordToken   = 'w'
	fdmStringToken = 's'
	fdmNumberToken = 'n'
)

// macro returns the name of a macro, with $ or %.
func (t fdmToken) macro() string { return string(t.kind) + t.text }

// fdmFile is a file that is being read.
type fdmFile struct {
	path, text string
	line       int
}

// include goes on with another file.
func (l *fdmLexer) include(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const maxIncludes = 32
	if len(l.files) >= maxIncludes {
		return fmt.Errorf("%s: includes itself", path)
	}
	if !utf8.Valid(text) || strings.Contains(string(text), fdmCommand) {
		return fmt.Errorf("%s: is not UTF-8: iconv makes it so", path)
	}
	l.files = append(l.files, &fdmFile{path, string(text), 1})
	return nil
}

// fail records an error at the current place, unless there was one before.
func (l *fdmLexer) fail(format string, args ...any) {
	if l.err == nil && len(l.files) > 0 {
		f := l.files[len(l.files)-1]
		l.err = fmt.Errorf("%s: line %d: %s", f.path, f.line, fmt.Sprintf(format, args...))
	}
}

// peek returns the next token. It reads that no earlier than it has to: a macro must be
// defined before the tokens that use it are read.
func (l *fdmLexer) peek() fdmToken {
	for l.peeked == nil && l.err == nil {
		t := l.read()
		isDirective := t.kind == fdmWordToken && l.directive(t.text)
		if !isDirective && (l.skip == 0 || t.kind == fdmEnd) {
			l.peeked = &t
		}
	}
	if l.err != nil {
		return fdmToken{}
	}
	return *l.peeked
}

// next returns the next token and goes on behind it.
func (l *fdmLexer) next() fdmToken {
	t := l.peek()
	l.peeked = nil
	return t
}

// directive follows a word that is about the file, and returns false for another word.
func (l *fdmLexer) directive(word string) bool {
	switch word {
	case "ifdef", "ifndef":
		name := l.read()
		if name.kind != '$' && name.kind != '%' {
			l.fail("%s wants the name of a macro", word)
			return true
		}
		_, defined := l.macros[name.macro()]
		l.depth++
		if defined != (word == "ifdef") && l.skip == 0 {
			l.skip = l.depth
		}
	case "endif":
		if l.depth == 0 {
			l.fail("endif ends nothing")
			return true
		}
		if l.skip == l.depth {
			l.skip = 0
		}
		l.depth--
	case "include":
		name := l.read()
		if l.skip > 0 {
			return true
		}
		if name.kind != fdmStringToken || name.text == "" || strings.HasPrefix(name.text, fdmCommand) {
			l.fail("include wants a path in quotes")
			return true
		}
		path := strings.ReplaceAll(name.text, "%h", l.home)
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			path = filepath.Join(l.home, rest)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(l.files[0].path), path)
		}
		if err := l.include(path); err != nil {
			l.fail("%v", err)
		}
	default:
		return false
	}
	return true
}

var (
	fdmSpace = regexp.MustCompile(`^(?:[ \t\r\n]+|#[^\n]*)+`)
	fdmWord  = regexp.MustCompile(`^[A-Za-z_-][A-Za-z0-9_-]*`)
	fdmInt   = regexp.MustCompile(`^[0-9]{1,18}`)
	fdmMacro = regexp.MustCompile(`^[$%](?:\{([A-Za-z0-9][A-Za-z0-9_-]*)\}|([A-Za-z0-9][A-Za-z0-9_-]*))`)
)

// read reads a token, whether it is to be skipped or not.
func (l *fdmLexer) read() fdmToken {
	for len(l.files) > 0 {
		l.take(fdmSpace)
		text := l.rest()
		switch {
		case text == "" && len(l.files) > 1:
			l.files = l.files[:len(l.files)-1]
		case text == "" && l.depth > 0:
			l.fail("endif is missing")
			return fdmToken{}
		case text == "":
			return fdmToken{}
		case text[0] == '"' || text[0] == '\'':
			return l.readString()
		case strings.HasPrefix(text, "$(") || strings.HasPrefix(text, "%("):
			return l.readCommand()
		case fdmMacro.MatchString(text):
			return fdmToken{text[0], macroName(l.take(fdmMacro))}
		case fdmInt.MatchString(text):
			return fdmToken{fdmNumberToken, l.take(fdmInt)}
		case fdmWord.MatchString(text):
			return fdmToken{fdmWordToken, l.take(fdmWord)}
		case strings.IndexByte("~+(),<>{}*=!", text[0]) >= 0:
			return fdmToken{text[0], l.skipBytes(1)}
		default:
			l.fail("%q is not expected", text[:1])
			return fdmToken{}
		}
	}
	return fdmToken{}
}

// rest returns what is left of the file.
func (l *fdmLexer) rest() string { return l.files[len(l.files)-1].text }

// take takes what a pattern matches at the beginning of the rest of the file.
func (l *fdmLexer) take(pattern *regexp.Regexp) string {
	return l.skipBytes(len(pattern.FindString(l.rest())))
}

// skipBytes takes n bytes of the file.
func (l *fdmLexer) skipBytes(n int) (taken string) {
	f := l.files[len(l.files)-1]
	taken, f.text = f.text[:n], f.text[n:]
	f.line += strings.Count(taken, "\n")
	return taken
}

// macroName returns the name in a match of fdmMacro.
func macroName(match string) string { return strings.Trim(match[1:], "{}") }

// readString reads a string. In double quotes, macros are replaced, and a backslash quotes
// the next character.
func (l *fdmLexer) readString() fdmToken {
	quote := l.skipBytes(1)
	value := ""
	for {
		rest := l.rest()
		plain := strings.IndexAny(rest, quote+`\$%`) // how much has no meaning
		switch {
		case plain < 0:
			l.fail("a string lacks a quote at its end")
			return fdmToken{}
		case plain > 0:
			value = joinFdm(value, l.skipBytes(plain))
		case rest[:1] == quote:
			l.skipBytes(1)
			return fdmToken{fdmStringToken, value}
		case quote == `"` && rest[0] == '\\' && len(rest) > 1:
			c := l.skipBytes(2)[1:]
			value = joinFdm(value, strings.NewReplacer("r", "\r", "n", "\n", "t", "\t").Replace(c))
		case quote == `"` && len(rest) > 1 && rest[1] == '{' && fdmMacro.MatchString(rest):
			value = joinFdm(value, l.macros[rest[:1]+macroName(l.take(fdmMacro))])
		default:
			value = joinFdm(value, l.skipBytes(1))
		}
	}
}

// readCommand reads $(a command), in which strings are as elsewhere.
func (l *fdmLexer) readCommand() fdmToken {
	kind := byte(fdmStringToken)
	if l.skipBytes(2)[0] == '%' {
		kind = fdmNumberToken
	}
	command := ""
	for depth := 1; ; {
		rest := l.rest()
		if rest == "" {
			l.fail("a command lacks the ) at its end")
			return fdmToken{}
		}
		switch c := rest[0]; c {
		case '"', '\'':
			t := l.readString()
			if t.kind == fdmEnd {
				return fdmToken{}
			}
			command = joinFdm(command, string(c)+t.text+string(c))
			continue
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				l.skipBytes(1)
				return fdmToken{kind, fdmCommand + strings.TrimPrefix(command, fdmCommand)}
			}
		}
		command = joinFdm(command, l.skipBytes(1))
	}
}
