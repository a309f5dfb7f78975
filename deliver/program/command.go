// Package program runs an external program, such as a delivery agent or a filter, on a
// message. The command line is fixed except for placeholders in arguments, and is never
// given to a shell (command.go). The standard input is a regular file, so that a program
// cannot see only part of the message. The environment has none of our secrets (env.go). A
// time limit ends the program and what it has started (run.go). output.go and tail.go read
// its output.
package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/deliver"
)

// Command is a command line with placeholders.
type Command struct {
	name string
	args [][]part
}

// part is literal text, or a placeholder if name is not empty.
type part struct{ text, name string }

// Values fill the placeholders {user} {account} {sender} {recipient} {size}
// and {uid}.
type Values struct {
	User, Account, Sender, Recipient, UID string
	// Size is the size of the program's standard input, in octets.
	Size int64
}

// byPlaceholder returns the values by placeholder.
func (v Values) byPlaceholder() []part {
	return []part{
		{v.User, "user"}, {v.Account, "account"}, {v.Sender, "sender"}, {v.Recipient, "recipient"},
		{strconv.FormatInt(v.Size, 10), "size"}, {v.UID, "uid"},
	}
}

// lookup returns the value for a placeholder; ok is false if there is no such placeholder.
func (v Values) lookup(name string) (text string, ok bool) {
	for _, p := range v.byPlaceholder() {
		if p.name == name {
			return p.text, true
		}
	}
	return "", false
}

// Parse parses a command line: the program and its arguments. In an argument, {{ stands for
// {, and a brace that does not enclose a word stands for itself. There must be no
// placeholder after a shell, another interpreter or ssh, which would run what the message
// puts there. The error is a *deliver.Error with FaultOperator and a hint.
func Parse(argv []string) (*Command, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, &deliver.Error{
			Fault: deliver.FaultOperator, Target: "program", Op: "no command line",
			Hint: "name the program and its arguments: [maildrop, -d, me]",
		}
	}
	c := &Command{name: argv[0]}
	for i, arg := range argv {
		parts, err := parseArg(arg)
		switch {
		case err != nil:
			return nil, c.operatorError(err.Error(), "the placeholders are {user} {account} {sender} {recipient} {size} {uid}; write {{ for {")
		case strings.ContainsRune(arg, 0):
			return nil, c.operatorError("an argument holds a NUL", "take it out")
		case i == 0 && hasPlaceholder(parts):
			return nil, c.operatorError("a placeholder in the program's name", "name the program itself; mail must not choose it")
		}
		if by, ok := findInterpreter(argv[:i+1]); ok && hasPlaceholder(parts) {
			return nil, c.operatorError(fmt.Sprintf("a placeholder behind %q", by),
				`what a stranger wrote could be run; let the script read the MAILHAUL_ variables instead: "$MAILHAUL_SENDER", in double quotes`)
		}
		if i > 0 {
			c.args = append(c.args, parts)
		}
	}
	return c, nil
}

// placeholder matches a placeholder, or the escape for an opening brace.
var placeholder = regexp.MustCompile(`\{\{|\{[a-z_]+\}`)

// parseArg splits an argument into literal text and placeholders.
func parseArg(arg string) (parts []part, err error) {
	at := 0
	for _, m := range placeholder.FindAllStringIndex(arg, -1) {
		parts = append(parts, part{text: arg[at:m[0]]})
		word := arg[m[0]:m[1]]
		at = m[1]
		if word == "{{" {
			parts = append(parts, part{text: "{"})
			continue
		}
		name := strings.Trim(word, "{}")
		if _, ok := (Values{}).lookup(name); !ok {
			return nil, fmt.Errorf("unknown placeholder %s", word)
		}
		parts = append(parts, part{name: name})
	}
	return append(parts, part{text: arg[at:]}), nil
}

// hasPlaceholder reports whether one of the parts is a placeholder.
func hasPlaceholder(parts []part) bool {
	return slices.ContainsFunc(parts, func(p part) bool { return p.name != "" })
}

// interpreters are programs that run the text of an argument, on this machine or another.
// Which argument that is depends on too many options to know them all: -ce, -Ec, -c -x,
// -e, --eval.
var interpreters = strings.Fields(`
	sh ash bash dash ksh mksh rbash yash zsh fish csh tcsh pwsh su runuser
	ssh slogin dbclient rsh mosh autossh
	perl python pypy ruby php lua luajit node nodejs deno tclsh expect guile
	awk gawk mawk nawk sed parallel`)

// commandOptions are options of programs that start another program. With such an option,
// the program takes one argument as a whole command line.
var commandOptions = map[string]*regexp.Regexp{
	"env":   regexp.MustCompile(`^(-[a-zA-Z0]*S|--s)`),
	"flock": regexp.MustCompile(`^(-[a-z]*c|--com)`),
}

// versionSuffix is the end of names such as python3.13 and ksh93.
var versionSuffix = regexp.MustCompile(`[-0-9.]+$`)

// findInterpreter returns the first argument that makes the later ones, or itself, a text
// to be run. It looks at all arguments, since env, nice, sudo, busybox and many others may
// come before an interpreter.
func findInterpreter(argv []string) (string, bool) {
	var options []*regexp.Regexp
	for _, arg := range argv {
		name := versionSuffix.ReplaceAllString(filepath.Base(arg), "")
		if slices.Contains(interpreters, name) ||
			slices.ContainsFunc(options, func(o *regexp.Regexp) bool { return o.MatchString(arg) }) {
			return arg, true
		}
		if o := commandOptions[name]; o != nil {
			options = append(options, o)
		}
	}
	return "", false
}

// Name returns the program as it is in the command line.
func (c *Command) Name() string { return c.name }

// Uses reports whether the command line has a placeholder of that name.
func (c *Command) Uses(name string) bool {
	return slices.ContainsFunc(c.args, func(parts []part) bool {
		return slices.ContainsFunc(parts, func(p part) bool { return p.name == name })
	})
}

// Find returns the absolute path of the program, which it looks up in PATH. The error is a
// *deliver.Error with FaultOperator.
func (c *Command) Find() (string, error) {
	path, err := exec.LookPath(c.name)
	if err == nil {
		// A relative path would be wrong if Run.Dir is another folder.
		path, err = filepath.Abs(path)
	}
	if err != nil {
		// The name is already in Target.
		if e, ok := errors.AsType[*exec.Error](err); ok {
			err = e.Err
		}
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		}
		return "", &deliver.Error{
			Fault: deliver.FaultOperator, Target: c.name, Op: "find the program", Err: err,
			Hint: "install it, make it executable, or write its whole path",
		}
	}
	return path, nil
}

// Fill returns the arguments for a message, and the values as environment variables. Each
// argument stays one argument, even if it is empty.
//
// The error is a *deliver.Error with FaultMessage, for two kinds of values: one with CR, LF or
// NUL, since programs write values into headers and logs; and one that begins with "-" at the
// beginning of an argument, since the program would take it for an option.
func (c *Command) Fill(v Values) (args, env []string, err error) {
	for _, p := range v.byPlaceholder() {
		if strings.ContainsAny(p.text, "\r\n\x00") {
			return nil, nil, c.messageError(fmt.Sprintf("the %s holds a line end or a NUL: %.100q", p.name, p.text), "")
		}
		env = append(env, "MAILHAUL_"+strings.ToUpper(p.name)+"="+p.text)
	}
	for _, parts := range c.args {
		var arg strings.Builder
		option := false
		for _, p := range parts {
			text := p.text
			if p.name != "" {
				text, _ = v.lookup(p.name)
				option = option || arg.Len() == 0 && strings.HasPrefix(text, "-")
			}
			arg.WriteString(text)
		}
		if option {
			return nil, nil, c.messageError(fmt.Sprintf("an argument would be taken for an option: %.100q", arg.String()),
				"put something before the placeholder, as in --from={sender}, or let the program read the MAILHAUL_ variables")
		}
		args = append(args, arg.String())
	}
	return args, env, nil
}

// operatorError returns the error of a command line that only the user can correct.
func (c *Command) operatorError(op, hint string) error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: c.name, Op: op, Hint: hint}
}

// messageError returns the error of a message whose values cannot be arguments.
func (c *Command) messageError(op, hint string) error {
	return &deliver.Error{Fault: deliver.FaultMessage, Target: c.name, Op: op, Hint: hint}
}
