package config

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/program"
)

// MDA is a sink that runs a program for each message.
type MDA struct {
	// Argv is the program and its arguments, with placeholders.
	Argv []string
	// Recipient is what {recipient} stands for; if it is empty, the account's route
	// names the recipient.
	Recipient string
	// Dir is the program's working folder; empty is our own.
	Dir string
	// Timeout bounds a run; 0 is the default of the sink.
	Timeout time.Duration
}

var filterReaders = keyReaders[filter.Options]{
	"command":    func(p *parser, v value, f *filter.Options) { f.Argv = p.readProgram(v) },
	"timeout":    func(p *parser, v value, f *filter.Options) { p.duration(v, time.Second, time.Hour, &f.Timeout) },
	"keep":       func(p *parser, v value, f *filter.Options) { f.Keep = p.readExitCodes(v) },
	"drop":       func(p *parser, v value, f *filter.Options) { f.Drop = p.readExitCodes(v) },
	"quarantine": func(p *parser, v value, f *filter.Options) { f.Quarantine = p.readExitCodes(v) },
	"allow_drop": func(p *parser, v value, f *filter.Options) { p.boolean(v, &f.AllowDrop) },
	"on_failure": func(p *parser, v value, f *filter.Options) {
		if s, _ := p.oneOf(v, "deliver", "wait"); s == "wait" {
			f.OnFailure = filter.Wait
		}
	},
}

// readFilter reads a program, or a mapping of a program and its options. It returns nil
// for none, which cancels the filter of defaults.
func (p *parser) readFilter(v value) *filter.Options {
	if isNone(v.node) {
		return nil
	}
	f := new(filter.Options)
	if v.node.Kind != yaml.MappingNode {
		f.Argv = p.readProgram(v)
	} else if lines := readMapping(p, v, filterReaders, f); !lines.has("command") {
		p.fail(v, "command: [spamc]", "command is missing")
	}
	if f.Argv != nil {
		if _, err := filter.New(*f); err != nil {
			p.failWith(v, err)
		}
	}
	return f
}

// failWith records err, with which another package has rejected the value v.
func (p *parser) failWith(v value, err error) {
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok {
		p.fail(v, "", "%v", err)
		return
	}
	p.fail(v, e.Hint, "%s", e.Op)
}

func (p *parser) readExitCodes(v value) []int {
	var codes []int
	for _, item := range p.items(v) {
		code := -1
		if p.number(item, 0, 255, &code); code >= 0 {
			codes = append(codes, code)
		}
	}
	return codes
}

// foreignMailPlaceholders maps placeholders of fetchmail, mpop and getmail to ours, ""
// if we have none.
var foreignMailPlaceholders = map[string]string{
	"%T": "{recipient}", "%F": "{sender}",
	"%(recipient)": "{recipient}", "%(sender)": "{sender}",
	"%(local)": "", "%(domain)": "", "%(mailbox)": "",
}

// readProgram reads a program that gets mail, and its arguments, which may hold
// placeholders. It returns nil after a mistake.
func (p *parser) readProgram(v value) []string {
	words, ok := p.readArgs(v, foreignMailPlaceholders)
	if !ok {
		return nil
	}
	if _, err := program.Parse(words); err != nil {
		p.failWith(v, err)
		return nil
	}
	return words
}

// readArgs reads a program and its arguments. It rejects the placeholders of other
// fetchers: we would not fill them in, and the program might take them for addresses.
func (p *parser) readArgs(v value, foreign map[string]string) (words []string, ok bool) {
	if words, ok = p.texts(v); !ok {
		return nil, false
	}
	if v.node.Kind == yaml.ScalarNode && strings.ContainsAny(words[0], " \t") {
		p.fail(v, "write "+flowList(splitCommandLine(words[0], foreign)), "a program with arguments must be a list")
		return nil, false
	}
	for _, word := range words {
		ours, ok := foreign[word]
		if !ok {
			continue
		}
		hint := "{recipient} is, and {sender}"
		if ours != "" {
			hint = "write " + quote(ours)
		}
		p.fail(v, hint, "%s is not filled in", quote(word))
		return nil, false
	}
	return words, p.resolveProgram(v, words)
}

// splitCommandLine suggests a list for a command line, with our placeholders instead of
// the foreign ones. A line that needs a shell, for example for a pipe, becomes a script;
// it gets addresses by variables, since as text of the script they could be run.
func splitCommandLine(line string, foreign map[string]string) []string {
	var pairs []string
	for theirs, ours := range foreign {
		ours = cmp.Or(ours, theirs)
		pairs = append(pairs, theirs, ours, "'"+theirs+"'", ours, `"`+theirs+`"`, ours)
	}
	line = strings.NewReplacer(pairs...).Replace(line)
	if !strings.ContainsAny(line, "|&;<>()$`\\\"'") {
		return strings.Fields(line)
	}
	// Variables in double quotes are not safe within other double quotes. The line
	// keeps its placeholders, and is rejected if it is used as it is.
	if !strings.Contains(line, `"`) {
		line = shellPlaceholders.Replace(line)
	}
	return []string{"sh", "-c", line}
}

// shellPlaceholders replaces placeholders by variables of the program's environment.
var shellPlaceholders = strings.NewReplacer("{recipient}", `"$MAILHAUL_RECIPIENT"`, "{sender}", `"$MAILHAUL_SENDER"`)

// resolveProgram makes the program words[0] of v an absolute path if it holds a slash.
// Others are looked up in PATH.
func (p *parser) resolveProgram(v value, words []string) (ok bool) {
	if !strings.Contains(words[0], "/") {
		return true
	}
	words[0], ok = p.path(p.items(v)[0])
	return ok
}

// flowList writes words as a list for a hint. Unlike List, it quotes only words that YAML
// would not take as they are, and those with spaces.
func flowList(words []string) string {
	quoted := slices.Clone(words)
	for i, word := range words {
		var got []string
		if err := yaml.Unmarshal([]byte("["+word+"]"), &got); err != nil || !slices.Equal(got, words[i:i+1]) || strings.Contains(word, " ") {
			quoted[i] = strconv.Quote(word)
		}
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// usesRecipient reports whether the command line has {recipient}.
func (m *MDA) usesRecipient() bool {
	command, err := program.Parse(m.Argv)
	return err == nil && command.Uses("recipient")
}
