package takeover

import (
	"regexp"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/program"
)

var (
	// safe is a word that a shell would take as it is.
	safe = regexp.MustCompile(`^[A-Za-z0-9_./,:@%+=-]+$`)
	// quotedSender are the places in quotes of their own that a sender is put into.
	quotedSender = strings.NewReplacer("'%F'", "%F", `"%F"`, "%F")
	// ours is what a program's arguments have placeholders for, or begin one with.
	ours = regexp.MustCompile(`\{\{|\{[a-z_]+\}`)
	// optionSender is a sender that is the value of an option: no command, and no file.
	optionSender = regexp.MustCompile(` -(?:[A-Za-z]|-[a-z][a-z-]*=?) *%F(?:[ |&;]|$)`)
)

// mdaSink returns the sink that runs an mda of fetchmail's, which is a line for the
// shell with %T for the recipient to and %F for the sender. It must not give a sender's
// text to what could run it; where that cannot be excluded, ok is false.
func mdaSink(mda, to string) (keys []Key, ok bool) {
	if strings.Contains(mda, "%T") {
		if !safe.MatchString(to) || strings.HasPrefix(to, "-") {
			return nil, false
		}
		for _, quoted := range []string{"'%T'", `"%T"`, "%T"} {
			mda = strings.ReplaceAll(mda, quoted, to)
		}
	}
	mda = quotedSender.Replace(mda)
	if strings.ContainsFunc(mda, func(r rune) bool { return control(r) && r != '\t' }) {
		return nil, false
	}
	mda = strings.ReplaceAll(mda, "\t", " ")
	if argv, ok := plainWords(mda); ok {
		return []Key{{"mda", argv}}, true
	}
	script, ok := withVariable(mda)
	if !ok {
		return nil, false
	}
	return []Key{{"mda", []string{"sh", "-c", literal(script)}}}, true
}

// literal has a text stand for itself among a program's arguments.
func literal(s string) string {
	return ours.ReplaceAllStringFunc(s, func(m string) string {
		if m == "{{" {
			return "{{{{"
		}
		return "{" + m
	})
}

// plainWords makes a list of a line that needs no shell.
func plainWords(line string) (argv []string, ok bool) {
	words := strings.Fields(line)
	for i, word := range words {
		text := word
		if i == 0 {
			text = strings.TrimPrefix(word, "~/")
		}
		if !safe.MatchString(text) || i == 0 && strings.Contains(text, "=") {
			return nil, false
		}
		argv = append(argv, strings.ReplaceAll(word, "%F", "{sender}"))
	}
	_, err := program.Parse(argv)
	return argv, err == nil
}

// runs are words of a shell that run what follows them; package program knows the
// programs that do.
var runs = []string{"eval", "xargs", "trap", ".", "source"}

// withVariable writes a script in which the sender is a variable, in quotes of its own,
// where it is the value of an option. What runs its arguments may not be in the script.
func withVariable(script string) (string, bool) {
	senders := strings.Count(script, "%F")
	if senders == 0 {
		return script, true
	}
	words := strings.FieldsFunc(script, func(r rune) bool { return strings.ContainsRune(" |&;()<>{}`$\"'", r) })
	_, err := program.Parse(slices.Concat([]string{"mda"}, words, []string{"{sender}"}))
	if err != nil || slices.ContainsFunc(words, func(w string) bool { return slices.Contains(runs, w) }) ||
		len(optionSender.FindAllString(script, -1)) != senders {
		return "", false
	}
	// Within what has rules of its own, a variable in quotes may be out of them.
	if strings.ContainsAny(script, "\\`#") || strings.Contains(script, "<<") || strings.Contains(script, "$(") || strings.Contains(script, "${") {
		return "", false
	}
	quote := byte(0) // that the place stands in
	for i := 0; i < len(script); i++ {
		switch c := script[i]; {
		case quote != 0 && strings.HasPrefix(script[i:], "%F"):
			return "", false
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		}
	}
	return strings.ReplaceAll(script, "%F", `"$MAILHAUL_SENDER"`), true
}
