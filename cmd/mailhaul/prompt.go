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

// errNoAnswer means that a person ended the questions, by ^C or ^D.
var errNoAnswer = errors.New("no answer")

// prompter asks a person at a terminal.
type prompter struct {
	ctx   context.Context // ends with ^C
	in    *os.File
	out   io.Writer
	lines *bufio.Reader // of in
}

func newPrompter(ctx context.Context, std stdio) *prompter {
	return &prompter{ctx: ctx, in: std.in, out: std.out, lines: bufio.NewReader(std.in)}
}

// line asks for a line. No answer is preset, which may be empty.
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

// secret asks for a line that is not shown while it is typed, from before the
// question on. It may be empty if that is allowed.
func (p *prompter) secret(question string, mayBeEmpty bool) (string, error) {
	for {
		fd := int(p.in.Fd())
		shown, err := term.MakeRaw(fd)
		if err != nil {
			return "", err
		}
		terminal := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{p.in, p.out}, "")
		answer, err := p.read(func() (string, error) { return terminal.ReadPassword(question + ": ") })
		if restored := term.Restore(fd, shown); err == nil {
			err = restored
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

// read reads what is typed, until ctx ends. Whoever reads then is left behind,
// since nothing can take a terminal from it.
func (p *prompter) read(from func() (string, error)) (string, error) {
	type typed struct {
		text string
		err  error
	}
	got := make(chan typed, 1)
	go func() {
		text, err := from()
		got <- typed{text, err}
	}()
	select {
	case t := <-got:
		if errors.Is(t.err, io.EOF) {
			return "", errNoAnswer
		}
		return t.text, t.err
	case <-p.ctx.Done():
		return "", errNoAnswer
	}
}

// choice asks for one of several, by its number, and returns its index.
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

// yes asks whether something is so; no answer is no.
func (p *prompter) yes(question string) (bool, error) {
	answer, err := p.line(question+" (y/n)", "n")
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), err
}
