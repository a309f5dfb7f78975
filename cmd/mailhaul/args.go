package main

import (
	"slices"
	"strings"
)

// valueFlags are the options whose value may be the next argument.
var valueFlags = []string{"c", "config", "log-format", "into"}

// optionsFirst moves options before the names of accounts, where the command
// line package looks for them: mailhaul fetch work -v. What follows -- stays.
func optionsFirst(args []string) []string {
	if len(args) < 2 {
		return args
	}
	options, names := slices.Clone(args[:2]), []string{}
	for i := 2; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return slices.Concat(options, names, args[i:])
		case !strings.HasPrefix(arg, "-") || arg == "-":
			names = append(names, arg)
			continue
		}
		options = append(options, arg)
		if slices.Contains(valueFlags, strings.TrimLeft(arg, "-")) && i+1 < len(args) {
			i++
			options = append(options, args[i])
		}
	}
	return append(options, names...)
}
