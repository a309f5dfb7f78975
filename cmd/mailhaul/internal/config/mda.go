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
	// Recipient is what {recipient} stands for; empty leaves it to the route.
	Recipient string
	// Dir is the program's working folder, empty for our own.
	Dir string
	// Timeout bounds a run; 0 leaves it to the sink.
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

// filter reads a program, or a mapping with its options; none undoes that of the
// defaults.
func (p *parser) readFilter(v value) *filter.Options {
	if isNone(v.node) {
		return nil
	}
	f := new(filter.Options)
	if v.node.Kind != yaml.MappingNode {
		f.Argv = p.readProgram(v)
	} else if lines := readMapping(p, v, filterReaders, f); lines["command"] == 0 {
		p.fail(v, "command: [spamc]", "command is missing")
	}
	if f.Argv != nil {
		if _, err := filter.New(*f); err != nil {
			p.failWith(v, err)
		}
	}
	return f
}

// refuse records the error of who would have to use what is written at v.
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

// foreignMail are placeholders of fetchmail, mpop and getmail, and ours for
// them.
var foreignMailPlaceholders = map[string]string{
	"%T": "{recipient}", "%F": "{sender}",
	"%(recipient)": "{recipient}", "%(sender)": "{sender}",
	"%(local)": "", "%(domain)": "", "%(mailbox)": "",
}

// argv reads a program and its arguments, with placeholders.
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

// words reads a program and its arguments. What another fetcher would fill in, the
// program would get as it is, and might well take for an address.
func (p *parser) readArgs(v value, foreign map[string]string) (words []string, ok bool) {
	if words, ok = p.texts(v); !ok {
		return nil, false
	}
	if v.node.Kind == yaml.ScalarNode && strings.ContainsAny(words[0], " \t") {
		p.fail(v, "write "+flow(splitCommandLine(words[0], foreign)), "a program with arguments must be a list")
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

// split makes a list of a command line. What only a shell can read, such as a
// pipe, is left to one, whose script finds in variables what would be filled in.
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
	if !strings.Contains(line, `"`) { // within quotes, what a stranger wrote could be run: leave it, to be refused
		line = shellPlaceholders.Replace(line)
	}
	return []string{"sh", "-c", line}
}

var shellPlaceholders = strings.NewReplacer("{recipient}", `"$MAILHAUL_RECIPIENT"`, "{sender}", `"$MAILHAUL_SENDER"`)

// program makes a program whose name holds a slash a path like others in the file.
func (p *parser) resolveProgram(v value, words []string) (ok bool) {
	if !strings.Contains(words[0], "/") {
		return true
	}
	words[0], ok = p.path(p.items(v)[0])
	return ok
}

// flow writes words as a list in a line, in quotes where they need them or are
// easier to read.
func flow(words []string) string {
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
