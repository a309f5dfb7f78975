package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// moveOptionsFirst moves options before the names of accounts, where the command
// line package looks for them: mailhaul fetch work -v. What follows -- is no
// option, so the -- goes before the names as well: the package takes the one
// that comes first for the end of the options, and any other for a name. Behind
// --help it would take a name for that of a help topic: all else is left out. Short
// options that are joined are taken apart.
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
		arg, all := args[i], splitShortOptions(flags, args[i])
		switch {
		case arg == "--":
			return slices.Concat(options, args[i:i+1], names, args[i+1:])
		case slices.ContainsFunc(all, isHelpOption) && args[words-1] != "help":
			return append(slices.Clone(args[:words]), "--help")
		case !strings.HasPrefix(arg, "-") || arg == "-":
			names = append(names, arg)
			continue
		}
		options = append(options, all...)
		if takesValue(flags, all[len(all)-1]) && i+1 < len(args) {
			i++
			options = append(options, args[i])
		}
	}
	return append(options, names...)
}

func isHelpOption(arg string) bool { return arg == "--help" || arg == "-h" }

// findCommand returns how many of args name the command and its subcommands,
// the program itself among them, and the flags of the last.
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

// takesValue reports whether arg is an option whose value may be the next
// argument: -c FILE, unlike -c=FILE.
func takesValue(flags []cli.Flag, arg string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool {
		valued, ok := f.(cli.DocGenerationFlag)
		return ok && valued.TakesValue() && slices.Contains(f.Names(), strings.TrimLeft(arg, "-"))
	})
}

// splitShortOptions takes short options that are joined apart: -nc is -n and -c. Only the last of
// them may take a value. The cli package would do so, too, and would take the next one
// for the value of those before.
func splitShortOptions(flags []cli.Flag, arg string) []string {
	letters, ok := strings.CutPrefix(arg, "-")
	if !ok || letters == "" || hasOption(flags, letters) {
		return []string{arg}
	}
	var all []string
	for i, r := range letters {
		short := "-" + string(r)
		if !isHelpOption(short) && !hasOption(flags, string(r)) || takesValue(flags, short) && i+1 < len(letters) {
			return []string{arg}
		}
		all = append(all, short)
	}
	return all
}

func hasOption(flags []cli.Flag, name string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

// commandNames returns the names of the commands that a person may give.
func commandNames(commands []*cli.Command) string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// requireSubcommand is the Action of a command that does nothing but by those below it.
func requireSubcommand(c *cli.Context) error {
	hint := "commands: " + commandNames(c.Command.Subcommands)
	if c.Args().Present() {
		return usagef(hint, "there is no command %q", c.Command.Name+" "+c.Args().First())
	}
	return usagef(hint, "mailhaul %s takes a command", c.Command.Name)
}
