package takeover

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/program"
)

// shellLine translates a line that another fetcher gives to a shell, once it has put
// the sender in the place of %F: to a program and its arguments if no shell is needed,
// else to one whose script finds the sender in a variable. Where a script could take
// what a stranger wrote for a command, it gets nobody instead, and safe is false.
func shellLine(line string) (argv []string, safe bool) {
	if words, ok := shellWords(line); ok {
		for i, word := range words {
			words[i] = strings.ReplaceAll(strings.ReplaceAll(word, "{", "{{"), "%F", "{sender}")
		}
		if _, err := program.Parse(words); err == nil {
			words[0] = strings.ReplaceAll(words[0], "$", "$$") // which is a path of ours
			return words, true
		}
	}
	script, safe := senderScript(strings.ReplaceAll(line, "{", "{{"))
	if !safe {
		script = strings.ReplaceAll(strings.ReplaceAll(line, "{", "{{"), "%F", nobody)
	}
	return []string{"sh", "-c", script}, safe
}

// nobody is the sender that mpop names if it finds none.
const nobody = "MAILER-DAEMON"

// ofShell are words that mean something to a shell only, at the beginning of a line.
var ofShell = strings.Fields("! . : [ alias case cd command eval exec export for if read set source test trap ulimit umask until while")

// shellWords splits a line as a shell would, if it has no more for a shell to do.
func shellWords(line string) (words []string, ok bool) {
	var word strings.Builder
	quote, begun := byte(0), false
	line = strings.TrimLeft(line, " \t") + " "
	for i, c := range []byte(line) {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '"' && strings.IndexByte("$`\\", c) >= 0:
			return nil, false
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case strings.IndexByte("|&;<>()$`\\*?[", c) >= 0,
			!begun && (strings.IndexByte("#{!", c) >= 0 || c == '~' && (i > 0 || line[1] != '/')),
			c == '=' && len(words) == 0:
			return nil, false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	ok = quote == 0 && len(words) > 0 && words[0] != "" && !slices.Contains(ofShell, words[0])
	return words, ok && !strings.Contains(words[0], "%F")
}

// nested is what makes it hard to tell how a shell reads %F, or how often.
var nested = regexp.MustCompile(`\$[({]|<<|#|\\|(^|[|&;(])\s*['"]?%F|\beval\b`)

// senderScript puts the variable with the sender in the place of %F, in quotes, and
// reports whether no shell reads what is in it as a command.
func senderScript(line string) (script string, safe bool) {
	if !strings.Contains(line, "%F") {
		return line, true
	}
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t|&;<>()$`'\"=", r) })
	if _, err := program.Parse(append(append([]string{"sender"}, words...), "{sender}")); err != nil || nested.MatchString(line) {
		return "", false
	}
	var b []byte
	quote, back := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case strings.HasPrefix(line[i:], "%F"):
			i++
			if quote != 0 {
				if line[i-2] != quote || i+1 == len(line) || line[i+1] != quote {
					return "", false // between other words in quotes
				}
				b, quote = b[:len(b)-1], 0
				i++
			}
			if back {
				return "", false
			}
			b = append(b, `"$MAILHAUL_SENDER"`...)
			continue
		case c == '`' && quote != '\'':
			back = !back
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		}
		b = append(b, c)
	}
	return string(b), quote == 0 && !back
}

// programName is what to call a sink that runs argv.
func programName(argv []string) string {
	if len(argv) == 3 && argv[0] == "sh" {
		argv = strings.Fields(argv[2])
	}
	return filepath.Base(argv[0])
}
