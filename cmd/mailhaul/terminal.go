package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// The colours of text on a terminal (ECMA-48 §8.3.117).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paintFunc returns text in a colour; "" is none.
type paintFunc func(colour, text string) string

// painter returns the function that colours text. It returns text as it is where there
// is no terminal, and where the user wants no colour (no-color.org).
func painter(terminal bool) paintFunc {
	if !terminal || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return func(_, text string) string { return text }
	}
	return func(colour, text string) string {
		if colour == "" {
			return text
		}
		return "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
}

// isTerminal reports whether what is written to w appears on a terminal.
func isTerminal(w io.Writer) bool {
	f := underlyingFile(w)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// lineWidth returns the width of lines written to w, in columns: that of the window if
// w is a terminal, else 80.
func lineWidth(w io.Writer) int {
	if f := underlyingFile(w); f != nil {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// underlyingFile returns the file below all our writers that wrap it, nil if there is
// none.
func underlyingFile(w io.Writer) *os.File {
	for {
		switch wrapper := w.(type) {
		case *output:
			w = wrapper.w
		case *aboveLines:
			w = wrapper.w
		case *backlog:
			w = wrapper.out
		case *abandonableWriter:
			w = wrapper.to
		case orderedReport:
			w = wrapper.out
		case *os.File:
			return wrapper
		default:
			return nil
		}
	}
}
