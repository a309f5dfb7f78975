package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
)

// newApp returns the cli application with all commands, which write to std.
func newApp(std stdio) *cli.App {
	app := &cli.App{
		Name:        "mailhaul",
		Usage:       "fetch mail from POP3 servers, lose none",
		UsageText:   "mailhaul COMMAND [OPTION…] [ACCOUNT…]",
		Writer:      std.out,
		ErrWriter:   std.err,
		HideVersion: true,
		Flags: []cli.Flag{
			toggle("version", "print the version"),
			cli.HelpFlag, // the cli package would add it only together with its own help command
		},
		Commands: []*cli.Command{
			initCommand(std),
			takeoverCommand(std),
			fetchCommand(std),
			daemonCommand(std),
			checkCommand(std),
			listCommand(std),
			planCommand(std),
			configCommand(std),
			statusCommand(std),
			explainCommand(std),
			stateCommand(std),
			loginCommand(std),
			demoCommand(std),
			completionCommand(std),
			completeCommand(std),
			helpCommand(std),
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("version"), c.Args().First() == "version":
				fmt.Fprintln(std.out, version())
				return nil
			case c.Args().Present():
				return usagef("commands: "+commandNames(c.App.Commands), "there is no command %q", c.Args().First())
			}
			return usagef("mailhaul fetch polls all accounts; mailhaul help tells more", "no command")
		},
		OnUsageError:   badFlag,
		ExitErrHandler: func(*cli.Context, error) {}, // the default one may call os.Exit
	}
	hideHelpCommands(app.Commands)
	rejectEmptyValues(app.Commands)
	return app
}

// hideHelpCommands keeps the cli package from adding the subcommands help and h to
// each command: where a command takes accounts, help is the name of an account.
func hideHelpCommands(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true
		hideHelpCommands(c.Subcommands)
	}
}

// rejectEmptyValues makes options refuse an empty value, as in --from "$FILE" where a
// script forgot to set FILE. Taken for a missing option, it could make the command do
// much more than was asked.
func rejectEmptyValues(commands []*cli.Command) {
	for _, c := range commands {
		for _, f := range c.Flags {
			if f, ok := f.(*cli.StringFlag); ok {
				f.Action = func(_ *cli.Context, value string) error {
					if value == "" {
						return usagef("write a value, or leave the option out", "the value of --%s is empty", f.Name)
					}
					return nil
				}
			}
		}
		rejectEmptyValues(c.Subcommands)
	}
}

// badFlag turns an error of the flag package into a usage error with a hint.
func badFlag(c *cli.Context, err error, _ bool) error {
	hint := c.Command.HelpName + " --help lists the options"
	if c.Command.HelpName == c.App.Name {
		hint = "mailhaul --help lists the commands; options stand behind them, as in mailhaul fetch -q"
	}
	return usagef(hint, "%s", longFlagPattern.ReplaceAllString(err.Error(), "$1--$2"))
}

// longFlagPattern matches the long option in an error of the flag package, which writes
// it with one dash.
var longFlagPattern = regexp.MustCompile(`^(flag (?:provided but not defined|needs an argument): |invalid (?:boolean )?value ".*" for (?:flag )?)-([^\s:-][^\s:]+)`)

// helpCommand replaces the help command of the cli package, which cannot explain a
// subcommand such as state retry.
func helpCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:         "help",
		Usage:        "explain mailhaul, or one of its commands",
		ArgsUsage:    "[COMMAND…]",
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			words := strings.Fields(c.Command.HelpName)
			words = append(words[:len(words)-1], c.Args().Slice()...)
			if n, _ := findCommand(c.App, words); n < len(words) {
				return usagef(c.App.Name+" help lists the commands", "there is no command %q", strings.Join(words[1:n+1], " "))
			}
			return newApp(std).RunContext(c.Context, append(words, "--help"))
		},
	}
}

// hiddenHelpCommand returns the helpCommand of a command that has subcommands.
func hiddenHelpCommand(std stdio) *cli.Command {
	c := helpCommand(std)
	c.Hidden = true
	return c
}

// configFlag returns the option of every command that reads the configuration.
func configFlag() cli.Flag { return configFileFlag("read the configuration from `FILE`") }

// newConfigFlag returns the option of the commands that write a new configuration.
func newConfigFlag() cli.Flag { return configFileFlag("write the configuration to `FILE`") }

func configFileFlag(usage string) cli.Flag {
	return &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, Usage: usage,
		DefaultText: "$MAILHAUL_CONFIG, else ~/.config/mailhaul/config.yaml",
	}
}

// toggle returns an option without a value. aliases are its short names.
func toggle(name, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage, DisableDefaultText: true}
}

// jsonFlag returns the option of commands whose JSON is for other programs.
func jsonFlag() cli.Flag { return toggle("json", "write JSON for other programs to read") }

// noArgs is the Before of commands that take no arguments.
func noArgs(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("", "%s takes no arguments, but was given %q", c.Command.HelpName, c.Args().First())
	}
	return nil
}

// version returns the line that mailhaul --version prints.
func version() string {
	b := buildInfo()
	if b.Commit != "" {
		b.Version += ", commit " + b.Commit
	}
	return "mailhaul " + b.Version + ", " + b.Go
}

// buildInfo returns what the Go toolchain recorded in this program.
func buildInfo() metrics.Build {
	b := metrics.Build{Version: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	modified := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " (modified)"
		}
	}
	if b.Commit != "" {
		b.Commit += modified
	}
	return b
}
