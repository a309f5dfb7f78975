package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/fetch"
)

// yesFlag is the option of every command that asks a person first.
func yesFlag() cli.Flag {
	return toggle("yes", "do it without asking", "y")
}

// confirm asks a person whether to do what was shown, unless yes was said
// beforehand. Any other answer than yes ends the run with exitPerson, and
// where nobody can be asked the command line lacks --yes.
func (std stdio) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if std.in == nil || !isTerminal(std.in) || !isTerminal(std.out) {
		return usagef("with --yes it does so without asking", "nothing was changed: there is no terminal to ask at")
	}
	fmt.Fprintf(std.out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(std.in).ReadString('\n')
	if err != nil {
		fmt.Fprintln(std.out) // ^D leaves the cursor behind the question
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	fmt.Fprintln(std.out, "nothing was changed")
	return &outcome{fetch.ClassOperator}
}
