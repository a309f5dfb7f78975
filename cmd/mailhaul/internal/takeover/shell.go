package takeover

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/program"
)

// withRecipient puts a recipient in the place of %T, in quotes of its own or not, unless
// there is none. ok is false where a shell could take it for more than a word.
func substituteRecipient(line, to string) (with string, ok bool) {
	if to == "" || !strings.Contains(line, "%T") {
		return line, true
	}
	return strings.NewReplacer("'%T'", to, `"%T"`, to, "%T", to).Replace(line), safeWord.MatchString(to)
}

// plainWord is a word that a shell would take as it is, and no program for an option.
var safeWord = regexp.MustCompile(`^[A-Za-z0-9_./,:@%+=][A-Za-z0-9_./,:@%+=-]*$`)

// shellLine translates a line that another fetcher gives to a shell, once it has put
// the sender in the place of %F: to a program and its arguments if no shell is needed,
// else to one whose script finds the sender in a variable. ok is false where that cannot
// be excluded to run what a stranger wrote.
func translateShellLine(line string) (argv []string, ok bool) {
	if words, ok := splitShellWords(line); ok {
		for i, word := range words {
			words[i] = strings.ReplaceAll(escapePlaceholders(word), "%F", "{sender}")
		}
		if _, err := program.Parse(words); err == nil {
			words[0] = escapePath(words[0])
			return words, true
		}
	}
	script, ok := scriptWithSender(line)
	return []string{"sh", "-c", escapePlaceholders(script)}, ok
}

// ours is what a program's arguments have placeholders for, or begin one with.
var placeholders = regexp.MustCompile(`\{\{|\{[a-z_]+\}|\{%F`)

// literal has a text stand for itself among a program's arguments.
func escapePlaceholders(s string) string {
	return placeholders.ReplaceAllStringFunc(s, func(m string) string {
		if m == "{{" {
			return "{{{{"
		}
		return "{" + m
	})
}

// ofShell are words that mean something to a shell only, at the beginning of a line.
var shellKeywords = strings.Fields("! . : [ alias case cd command eval exec export for if read set source test trap ulimit umask until while")

// shellWords splits a line as a shell would, if it has no more for a shell to do.
func splitShellWords(line string) (words []string, ok bool) {
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
			if strings.Contains(word.String(), "%F") && strings.ContainsAny(word.String(), " \t") {
				return nil, false // which may be a command line
			}
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
	ok = quote == 0 && len(words) > 0 && words[0] != "" && !slices.Contains(shellKeywords, words[0])
	return words, ok && !strings.Contains(words[0], "%F")
}

var (
	// nested is what makes it hard to tell how a shell reads %F, or how often.
	unsafeScript = regexp.MustCompile(`\$[({]|<<|#|\\|(^|[|&;(])\s*['"]?%F|\beval\b|(^|[\s|&;(){}])['"]?\.['"]?\s`)
	// runs are words of a shell that run what follows them; package program knows the
	// programs that do.
	commandRunners = []string{"xargs", "trap", "source"}
	// optionSender is a sender that is the value of an option: no command, and no file.
	senderOption = regexp.MustCompile(`\s-(?:[A-Za-z]|-[a-z][a-z-]*=?)\s*(?:%F|'%F'|"%F")(?:[\s|&;]|$)`)
)

// senderScript puts the variable with the sender in the place of %F, in quotes, and
// reports whether no shell reads what is in it as a command, or as anything but the value
// of an option.
func scriptWithSender(line string) (script string, ok bool) {
	senders := strings.Count(line, "%F")
	if senders == 0 {
		return line, true
	}
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t|&;<>(){}$`'\"=", r) })
	if _, err := program.Parse(slices.Concat([]string{"sender"}, words, []string{"{sender}"})); err != nil ||
		slices.ContainsFunc(words, func(w string) bool { return slices.Contains(commandRunners, w) }) ||
		unsafeScript.MatchString(line) || len(senderOption.FindAllString(line, -1)) != senders {
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
