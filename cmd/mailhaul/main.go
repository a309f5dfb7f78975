// Command mailhaul fetches mail from POP3 servers into Maildirs, mboxes, other
// servers and programs. It deletes a message from its server only once it is
// safe there.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/mailhaul/mailhaul/fetch/discover"
)

func main() {
	os.Exit(run(context.Background(), os.Args, stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// stdio is where a run speaks: results on out; errors, and lines on how it
// goes, on err. Questions are asked only if in, which may be nil, is a
// terminal.
type stdio struct {
	in       *os.File
	out, err io.Writer
	finder   discover.Finder // of servers, for init
}

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, std stdio) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(std.err, "mailhaul: error: this is a bug in mailhaul: %v\n%s", r, debug.Stack())
			code = exitInternal
		}
	}()
	// A reader of our output that goes away is not to end a poll half-way.
	defer notePipes()()
	out := &output{w: std.out}
	std.out = out
	app := newApp(std)
	err := out.verdict(app.RunContext(ctx, moveOptionsFirst(app, args)))
	printError(std, err)
	return exitCode(err)
}
