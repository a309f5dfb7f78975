package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// errNoAnswer reports that the user ended the questions with ^C or ^D.
var errNoAnswer = errors.New("no answer")

// prompter asks questions on a terminal. Its methods return errNoAnswer after ^C or ^D.
type prompter struct {
	ctx   context.Context // ends with ^C
	in    *os.File
	out   io.Writer
	lines *bufio.Reader // of in
}

func newPrompter(ctx context.Context, std stdio) *prompter {
	return &prompter{ctx: ctx, in: std.in, out: std.out, lines: bufio.NewReader(std.in)}
}

// line asks for a line until one is valid UTF-8 and not blank. A blank answer stands for
// preset, unless that is empty.
func (p *prompter) line(question, preset string) (string, error) {
	if preset != "" {
		question += " [" + preset + "]"
	}
	for {
		fmt.Fprintf(p.out, "%s: ", question)
		answer, err := p.read(func() (string, error) { return p.lines.ReadString('\n') })
		if err != nil {
			fmt.Fprintln(p.out)
			return "", err
		}
		if answer = strings.TrimSpace(answer); answer == "" {
			answer = preset
		}
		if answer != "" && utf8.ValidString(answer) {
			return answer, nil
		}
	}
}

// secret asks for a line that is not shown while it is typed. The echo is off before the
// question appears, for users who type ahead.
func (p *prompter) secret(question string, mayBeEmpty bool) (string, error) {
	for {
		fd := int(p.in.Fd())
		before, err := term.MakeRaw(fd)
		if err != nil {
			return "", err
		}
		terminal := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{p.in, p.out}, "")
		answer, err := p.read(func() (string, error) { return terminal.ReadPassword(question + ": ") })
		if restoreErr := term.Restore(fd, before); err == nil {
			err = restoreErr
		}
		if err != nil {
			fmt.Fprintln(p.out)
			return "", err
		}
		if answer != "" || mayBeEmpty {
			return answer, nil
		}
	}
}

// read calls readInput, and returns early when ctx ends. Then the goroutine that calls
// it leaks: nothing can interrupt a read from a terminal.
func (p *prompter) read(readInput func() (string, error)) (string, error) {
	type input struct {
		text string
		err  error
	}
	inputs := make(chan input, 1)
	go func() {
		text, err := readInput()
		inputs <- input{text, err}
	}()
	select {
	case in := <-inputs:
		if errors.Is(in.err, io.EOF) {
			return "", errNoAnswer
		}
		return in.text, in.err
	case <-p.ctx.Done():
		return "", errNoAnswer
	}
}

// choice asks for one of several options by its number, and returns its index. preset is
// the index that a blank answer stands for.
func (p *prompter) choice(question string, options []string, preset int) (int, error) {
	fmt.Fprintln(p.out, question)
	for i, o := range options {
		fmt.Fprintf(p.out, "  %d  %s\n", i+1, o)
	}
	for {
		answer, err := p.line("Number", strconv.Itoa(preset+1))
		if err != nil {
			return 0, err
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(options) {
			return n - 1, nil
		}
		fmt.Fprintf(p.out, "  write a number from 1 to %d\n", len(options))
	}
}

// yes asks a question whose answer is yes or no. A blank answer is no.
func (p *prompter) yes(question string) (bool, error) {
	answer, err := p.line(question+" (y/n)", "n")
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), err
}
