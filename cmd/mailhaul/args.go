package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// moveOptionsFirst returns args with the options before the names of accounts, where the
// cli package expects them, and with joined short options split: work -nv becomes
// -n -v work. An argument -- also moves before the names, because the cli package takes
// only the first argument -- for the end of the options. If an option asks for help, the
// rest is left out, because the cli package would take a name for a help topic.
func moveOptionsFirst(app *cli.App, args []string) []string {
	words, flags := findCommand(app, args)
	if words < 2 {
		switch {
		case len(args) < 2:
		case isHelpOption(args[1]):
			return slices.Concat(args[:1], []string{"help"}, args[2:])
		case args[1] == "--version":
			return args[:2]
		}
		return args
	}
	options, names := slices.Clone(args[:words]), []string{}
	for i := words; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return slices.Concat(options, args[i:i+1], names, args[i+1:])
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			names = append(names, arg)
			continue
		}
		split := splitShortOptions(flags, arg)
		if slices.ContainsFunc(split, isHelpOption) && args[words-1] != "help" {
			return append(slices.Clone(args[:words]), "--help")
		}
		options = append(options, split...)
		if takesValue(flags, split[len(split)-1]) && i+1 < len(args) {
			i++
			options = append(options, args[i])
		}
	}
	return append(options, names...)
}

func isHelpOption(arg string) bool { return arg == "--help" || arg == "-h" }

// findCommand returns how many of the first args name the program, a command and its
// subcommands, and the flags of the last of these.
func findCommand(app *cli.App, args []string) (words int, flags []cli.Flag) {
	commands, flags := app.Commands, app.Flags
	for words = 1; words < len(args); words++ {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[words]) })
		if i < 0 {
			break
		}
		commands, flags = commands[i].Subcommands, commands[i].Flags
	}
	return words, flags
}

// takesValue reports whether arg is an option whose value is the next argument, such
// as -c, unlike -c=FILE.
func takesValue(flags []cli.Flag, arg string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool {
		valued, ok := f.(cli.DocGenerationFlag)
		return ok && valued.TakesValue() && slices.Contains(f.Names(), strings.TrimLeft(arg, "-"))
	})
}

// splitShortOptions splits joined short options: -nc becomes -n and -c. Only the last of
// them may take a value; the cli package would split -cn, too, and take -n for the value
// of -c. An arg that cannot be split is returned as it is.
func splitShortOptions(flags []cli.Flag, arg string) []string {
	letters, ok := strings.CutPrefix(arg, "-")
	if !ok || letters == "" || hasOption(flags, letters) {
		return []string{arg}
	}
	var split []string
	for i, r := range letters {
		short := "-" + string(r)
		if !isHelpOption(short) && !hasOption(flags, string(r)) || takesValue(flags, short) && i+1 < len(letters) {
			return []string{arg}
		}
		split = append(split, short)
	}
	return split
}

func hasOption(flags []cli.Flag, name string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

// commandNames lists the names of the commands that are not hidden.
func commandNames(commands []*cli.Command) string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// requireSubcommand is the Action of a command that only groups subcommands.
func requireSubcommand(c *cli.Context) error {
	hint := "commands: " + commandNames(c.Command.Subcommands)
	if c.Args().Present() {
		return usagef(hint, "there is no command %q", c.Command.Name+" "+c.Args().First())
	}
	return usagef(hint, "mailhaul %s takes a command", c.Command.Name)
}
