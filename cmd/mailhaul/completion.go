package main

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// completions holds a script for each shell, which runs mailhaul __complete.
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

// completeCommandName is the hidden command that the scripts run. The completion of the
// cli package knows neither the values of options nor options behind arguments.
const completeCommandName = "__complete"

// completeCommand returns the command that prints the completions of its last argument,
// one a line: a word, a tab, and the meaning. It prints no errors, which would end up in
// the middle of the line that a person is typing.
func completeCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:            completeCommandName,
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) < 2 { // the first word is --
				return nil
			}
			for _, found := range completeLine(newApp(std), words[1:]) {
				fmt.Fprintf(std.out, "%s\t%s\n", found.word, found.meaning)
			}
			return nil
		},
	}
}

// completion is a word that completes a command line, and what it means.
type completion struct{ word, meaning string }

// anyFile tells the script to let the shell complete the names of files.
var anyFile = completion{word: ":files"}

// commandLine is the part of a command line before the word to complete.
type commandLine struct {
	app           *cli.App
	command       *cli.Command // the innermost; nil before the first
	configPath    string       // the value of --config
	pendingOption string       // the option whose value comes next, or ""
	lastOption    string       // the last word, if it is an option, or ""
	args          []string
	optionsDone   bool // after --
}

// completeLine returns the completions of the last word.
func completeLine(app *cli.App, words []string) []completion {
	l := commandLine{app: app}
	last := len(words) - 1
	for _, w := range words[:last] {
		l.parseWord(w)
	}
	typed, prefix := words[last], "" // prefix is the --option= before a typed value
	name, value, hasValue := strings.Cut(typed, "=")
	switch {
	case typed == "=" && l.lastOption != "":
		l.parseWord(typed)
		typed = ""
	case hasValue && l.pendingOption == "" && !l.optionsDone && strings.HasPrefix(name, "-"):
		l.pendingOption, typed, prefix = name, value, name+"="
	}
	var all []completion
	for _, c := range l.candidates(typed) {
		switch {
		case c == anyFile:
			all = append(all, c)
		case strings.HasPrefix(c.word, typed):
			all = append(all, completion{prefix + c.word, c.meaning})
		}
	}
	return all
}

// nextCommands returns the commands that may come next.
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

// parseWord adds a word to the line. Bash splits --option=value into three words.
func (l *commandLine) parseWord(w string) {
	name, value, hasValue := strings.Cut(w, "=")
	lastOption := l.lastOption
	l.lastOption = ""
	switch {
	case w == "=" && lastOption != "":
		l.pendingOption = lastOption
	case l.pendingOption != "":
		l.setOption(l.pendingOption, w)
		l.pendingOption = ""
	case l.optionsDone || !strings.HasPrefix(w, "-"):
		if w == "help" && l.command == nil {
			return // the name of a command may follow
		}
		i := slices.IndexFunc(l.nextCommands(), func(c *cli.Command) bool { return c.HasName(w) })
		if i < 0 {
			l.args = append(l.args, w)
			return
		}
		l.command = l.nextCommands()[i]
	case w == "--":
		l.optionsDone = true
	case hasValue:
		l.setOption(name, value)
	default:
		split := splitShortOptions(l.flags(), w)
		l.lastOption = split[len(split)-1]
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

// optionValues are the possible values of some options, by name.
var optionValues = map[string][]string{
	"log-format": {"auto", "text", "json"},
	"progress":   {"auto", "always", "never"},
	"sort":       strings.Split(listOrderNames, ", "),
	"tls":        {string(config.TLSImplicit), string(config.TLSStart), string(config.TLSNone)},
	"oauth":      config.OAuthProviders,
}

// candidates returns the words that may come next. They may begin otherwise than typed,
// which only tells whether an option is being typed.
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
	if l.command == nil {
		return all // none after an unknown command
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

// argumentName returns what usage, as in "ACCOUNT [UID…]", calls the argument that
// follows n others, "" if there is none.
func argumentName(usage string, n int) string {
	names := strings.Fields(usage)
	switch {
	case len(names) == 0:
		return ""
	case strings.Contains(names[0], "…"):
		n = 0 // any number of them; unique-ids, which may follow, cannot be completed
	case n >= len(names) && strings.Contains(names[len(names)-1], "…"):
		n = len(names) - 1
	case n >= len(names):
		return ""
	}
	return strings.Trim(names[n], "[]…")
}

// arguments returns the candidates for the next argument of the command.
func (l *commandLine) arguments() []completion {
	cfg, err := loadConfig(l.configPath)
	if err != nil {
		cfg = &config.Config{}
	}
	var all []completion
	switch argumentName(l.command.ArgsUsage, len(l.args)) {
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
		for _, login := range oauthLogins(cfg) {
			all = append(all, completion{login.name, login.User})
		}
	}
	return slices.DeleteFunc(all, func(c completion) bool { return slices.Contains(l.args, c.word) })
}

func wordCompletions(words []string) []completion {
	var all []completion
	for _, w := range words {
		all = append(all, completion{word: w})
	}
	return all
}
