package takeover

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/program"
)

// substituteRecipient replaces %T in a line, quoted or not, by the recipient to. If to is
// empty it changes nothing. ok is false if a shell could take to for more than a word.
func substituteRecipient(line, to string) (substituted string, ok bool) {
	if to == "" || !strings.Contains(line, "%T") {
		return line, true
	}
	return strings.NewReplacer("'%T'", to, `"%T"`, to, "%T", to).Replace(line), safeWord.MatchString(to)
}

// safeWord matches a word that has no meaning for a shell and that no program takes for
// an option.
var safeWord = regexp.MustCompile(`^[A-Za-z0-9_./,:@%+=][A-Za-z0-9_./,:@%+=-]*$`)

// translateShellLine translates a command line that another fetcher gives to a shell
// after replacing %F by the sender. The result is a program and its arguments if that
// needs no shell, else a shell with a script that reads the sender from a variable. ok is
// false if the script might run part of the sender's address as a command.
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

// placeholders matches what package program would take for a placeholder, or for {{.
var placeholders = regexp.MustCompile(`\{\{|\{[a-z_]+\}|\{%F`)

// escapePlaceholders escapes a text that is to be an argument of a program as it is.
func escapePlaceholders(s string) string {
	return placeholders.ReplaceAllStringFunc(s, func(m string) string {
		if m == "{{" {
			return "{{{{"
		}
		return "{" + m
	})
}

// shellKeywords are first words of a line that only a shell understands.
var shellKeywords = strings.Fields("! . : [ alias case cd command eval exec export for if read set source test trap ulimit umask until while")

// splitShellWords splits a line into words as a shell would. ok is false if the line has
// anything else for a shell to do.
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
				return nil, false // the word may be a command line itself
			}
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case strings.IndexByte("|&;<>()$`\\*?[", c) >= 0, // an operator, an expansion or a pattern
			!begun && strings.IndexByte("#{!", c) >= 0,      // a comment, a group or a negation
			!begun && c == '~' && (i > 0 || line[1] != '/'), // mailhaul expands only ~/ of the program
			c == '=' && len(words) == 0:                     // an assignment
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
	// unsafeScript matches what makes it hard to tell how, or how often, a shell parses
	// the words with %F.
	unsafeScript = regexp.MustCompile(`\$[({]|<<|#|\\|(^|[|&;(])\s*['"]?%F|\beval\b|(^|[\s|&;(){}])['"]?\.['"]?\s`)
	// commandRunners are words that run the words behind them as a command, besides the
	// programs that package program knows.
	commandRunners = []string{"xargs", "trap", "source"}
	// senderOption matches a sender that is the value of an option, and so is neither a
	// command nor a file.
	senderOption = regexp.MustCompile(`\s-(?:[A-Za-z]|-[a-z][a-z-]*=?)\s*(?:%F|'%F'|"%F")(?:[\s|&;]|$)`)
)

// scriptWithSender replaces %F in a script by the quoted variable with the sender. ok is
// false if a shell might take that for a command, or for anything but the value of an
// option.
func scriptWithSender(line string) (script string, ok bool) {
	senders := strings.Count(line, "%F")
	if senders == 0 {
		return line, true
	}
	if unsafeScript.MatchString(line) || len(senderOption.FindAllString(line, -1)) != senders || runsItsArguments(line) {
		return "", false
	}
	return quoteSender(line)
}

// runsItsArguments reports whether a script has a word that may be the name of a program
// that runs its arguments as a command.
func runsItsArguments(script string) bool {
	words := strings.FieldsFunc(script, func(r rune) bool { return strings.ContainsRune(" \t|&;<>(){}$`'\"=", r) })
	if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(commandRunners, w) }) {
		return true
	}
	// Package program refuses a placeholder anywhere behind the name of such a program.
	_, err := program.Parse(slices.Concat([]string{"sender"}, words, []string{"{sender}"}))
	return err != nil
}

// quoteSender replaces each %F in a script, with the quotes around it, by the quoted
// variable with the sender. ok is false for one in backquotes, for one between other
// words in quotes, and if quotes are left open.
func quoteSender(line string) (script string, ok bool) {
	var b []byte
	quote, backquoted := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case strings.HasPrefix(line[i:], "%F"):
			i++
			if quote != 0 {
				if line[i-2] != quote || i+1 == len(line) || line[i+1] != quote {
					return "", false
				}
				b, quote = b[:len(b)-1], 0
				i++
			}
			if backquoted {
				return "", false
			}
			b = append(b, `"$MAILHAUL_SENDER"`...)
			continue
		case c == '`' && quote != '\'':
			backquoted = !backquoted
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		}
		b = append(b, c)
	}
	return string(b), quote == 0 && !backquoted
}

// programName returns a name for a sink that runs argv.
func programName(argv []string) string {
	if len(argv) == 3 && argv[0] == "sh" {
		argv = strings.Fields(argv[2])
	}
	return filepath.Base(argv[0])
}
