package main

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// completions are the scripts by which shells ask mailhaul complete, by the
// names of the shells.
//
//go:embed completions
var completions embed.FS

var shells = []string{"bash", "zsh", "fish"}

func completionCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands, options and accounts in a shell",
		ArgsUsage: "SHELL",
		Description: "SHELL is bash, zsh or fish. make install puts the scripts where the shells look for\n" +
			"them. To try one: source <(mailhaul completion bash)",
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || !slices.Contains(shells, c.Args().First()) {
				return usagef("mailhaul completion bash", "mailhaul completion takes one of %s", strings.Join(shells, ", "))
			}
			script, err := completions.ReadFile("completions/" + c.Args().First())
			if err != nil {
				return err
			}
			_, err = std.out.Write(script)
			return err
		},
	}
}

// completeCommandName is the command by which the scripts ask. The cli package has
// something of the kind, which knows neither what follows an option nor
// arguments in any order.
const completeCommandName = "__complete"

// completeCommand prints what the last of its arguments may be, one a line: a
// word, a tab, and what it means. It never complains: who presses Tab wants no
// lecture.
func completeCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:            completeCommandName,
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) < 2 { // the first is --
				return nil
			}
			writeCompletions(std.out, completeLine(newApp(std), words[1:]))
			return nil
		},
	}
}

// completion is a word that may stand on a command line, and what it means.
type completion struct{ word, meaning string }

// anyFile stands for the names of all files, which the shell knows best.
var anyFile = completion{word: ":files"}

func writeCompletions(out io.Writer, all []completion) {
	for _, c := range all {
		fmt.Fprintf(out, "%s\t%s\n", c.word, c.meaning)
	}
}

// commandLine is what was typed before the word that is to be completed.
type commandLine struct {
	app           *cli.App
	command       *cli.Command // nil before the first
	configPath    string       // the value of --config
	pendingOption string       // that the word is the value of, or ""
	lastOption    string       // the option that is the last word, or ""
	args          []string
	optionsDone   bool // after --
}

// completeLine returns what the last of words may be.
func completeLine(app *cli.App, words []string) []completion {
	l := commandLine{app: app}
	last := len(words) - 1
	for _, w := range words[:last] {
		l.parseWord(w)
	}
	typed, stays := words[last], "" // of the word, in front of what is typed
	switch name, value, both := strings.Cut(typed, "="); {
	case typed == "=" && l.lastOption != "":
		l.parseWord(typed)
		typed = ""
	case both && l.pendingOption == "" && !l.optionsDone && strings.HasPrefix(name, "-"):
		l.pendingOption, typed, stays = name, value, name+"="
	}
	var all []completion
	for _, c := range l.candidates(typed) {
		switch {
		case c == anyFile:
			all = append(all, c)
		case strings.HasPrefix(c.word, typed):
			all = append(all, completion{stays + c.word, c.meaning})
		}
	}
	return all
}

func (l *commandLine) nextCommands() []*cli.Command {
	switch {
	case len(l.args) > 0:
		return nil
	case l.command == nil:
		return l.app.Commands
	}
	return l.command.Subcommands
}

func (l *commandLine) flags() []cli.Flag {
	if l.command == nil {
		return l.app.Flags
	}
	return l.command.Flags
}

// parseWord takes in a word. To bash, --option=value is three.
func (l *commandLine) parseWord(w string) {
	name, value, both := strings.Cut(w, "=")
	before := l.lastOption
	l.lastOption = ""
	switch {
	case w == "=" && before != "":
		l.pendingOption = before
	case l.pendingOption != "":
		l.setOption(l.pendingOption, w)
		l.pendingOption = ""
	case l.optionsDone || !strings.HasPrefix(w, "-"):
		if w == "help" && l.command == nil {
			return // the names of commands follow it, too
		}
		i := slices.IndexFunc(l.nextCommands(), func(c *cli.Command) bool { return c.HasName(w) })
		if i < 0 {
			l.args = append(l.args, w)
			return
		}
		l.command = l.nextCommands()[i]
	case w == "--":
		l.optionsDone = true
	case both:
		l.setOption(name, value)
	default:
		all := splitShortOptions(l.flags(), w)
		l.lastOption = all[len(all)-1]
		if takesValue(l.flags(), l.lastOption) {
			l.pendingOption = l.lastOption
		}
	}
}

func (l *commandLine) setOption(option, value string) {
	if name := strings.TrimLeft(option, "-"); name == "config" || name == "c" {
		l.configPath = value
	}
}

// optionValues are the values of options that are no files.
var optionValues = map[string][]string{
	"log-format": {"auto", "text", "json"},
	"progress":   {"auto", "always", "never"},
	"sort":       strings.Split(listOrderNames, ", "),
	"tls":        {string(config.TLSImplicit), string(config.TLSStart), string(config.TLSNone)},
	"oauth":      config.OAuthProviders,
}

// candidates returns what the next word may be, if it begins like typed.
func (l *commandLine) candidates(typed string) []completion {
	if l.pendingOption != "" {
		if values := optionValues[strings.TrimLeft(l.pendingOption, "-")]; values != nil {
			return wordCompletions(values)
		}
		if !takesValue(l.flags(), l.pendingOption) {
			return nil
		}
		return []completion{anyFile}
	}
	if strings.HasPrefix(typed, "-") && !l.optionsDone {
		return l.optionNames()
	}
	var all []completion
	for _, c := range l.nextCommands() {
		if !c.Hidden {
			all = append(all, completion{c.Name, c.Usage})
		}
	}
	if l.command == nil && len(l.args) > 0 {
		return nil // there is no such command
	} else if l.command == nil {
		return all
	}
	return append(all, l.arguments()...)
}

func (l *commandLine) optionNames() []completion {
	all := []completion{{"--help", "tell how to use it"}}
	for _, f := range l.flags() {
		doc, ok := f.(cli.DocGenerationFlag)
		if visible, can := f.(cli.VisibleFlag); !ok || f == cli.HelpFlag || can && !visible.IsVisible() {
			continue
		}
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			all = append(all, completion{dashes + name, strings.ReplaceAll(doc.GetUsage(), "`", "")})
		}
	}
	return all
}

// arguments returns what the command takes next, by what its help calls it.
func (l *commandLine) arguments() []completion {
	places := strings.Fields(l.command.ArgsUsage)
	at := len(l.args)
	switch n := len(places); {
	case n > 0 && strings.Contains(places[0], "…"):
		at = 0 // what follows, the UIDs, nobody could complete
	case at < n:
	case n == 0 || !strings.Contains(places[n-1], "…"):
		return nil
	default:
		at = n - 1
	}
	cfg := &config.Config{}
	if c, err := loadConfig(l.configPath); err == nil {
		cfg = c
	}
	var all []completion
	switch strings.Trim(places[at], "[]…") {
	case "FILE":
		return []completion{anyFile}
	case "SHELL":
		all = wordCompletions(shells)
	case "FETCHER":
		all = wordCompletions(fetcherNames())
	case "ACCOUNT", "NEW":
		for _, a := range cfg.Accounts {
			all = append(all, completion{a.Name, a.User + " at " + a.Host})
		}
	case "NAME":
		for _, g := range granteesOf(cfg) {
			all = append(all, completion{g.name, g.User})
		}
	}
	return slices.DeleteFunc(all, func(c completion) bool { return slices.Contains(l.args, c.word) })
}

func wordCompletions(all []string) []completion {
	var cs []completion
	for _, w := range all {
		cs = append(cs, completion{word: w})
	}
	return cs
}
