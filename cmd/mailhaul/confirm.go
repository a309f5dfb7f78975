package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/fetch"
)

// yesFlag returns the option of every command that asks for confirmation.
func yesFlag() cli.Flag {
	return toggle("yes", "do it without asking", "y")
}

// canAsk reports whether there is a terminal to ask a person at.
func (std stdio) canAsk() bool { return isTerminal(std.in) && isTerminal(std.out) }

// confirm asks question, unless yes, which is --yes, is true. It returns nil if the
// answer is yes, an outcome for any other answer, and a usage error if there is no
// terminal to ask at.
func (std stdio) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !std.canAsk() {
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
