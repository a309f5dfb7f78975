// Command mailhaul fetches mail from POP3 servers into Maildirs, mboxes, other
// servers and programs. It deletes a message from its server only once it is
// safe there.
//
// The packages below fetch, deliver and pop3proto do the work and report typed events
// and errors. This package reads the command line and the configuration, connects
// the two, and does all the talking: output, logs, hints and exit codes.
//
// Most commands run through the same steps, as in [runFetch]:
//
//  1. [run] parses the command line with the commands of [newApp].
//  2. wire.go loads the configuration and builds from it the sinks, the sources of
//     access tokens, and a fetch.Account for each account.
//  3. The command opens the state, to change it or only to read it (remember.go).
//  4. fetch.Once, fetch.Each or fetch.Run polls the accounts. Their events go to a
//     [reporter], which writes text or JSON. Others wrap it, such as [digest].
//  5. The command returns an error: nil, a [failure] with its exit code and hint, or an
//     [outcome] if every account was already reported. [exitCode] maps it.
//
// Each command begins in a file of its name; mailhaul state retry is in stateretry.go.
// The exceptions are config (configcmd.go), import (takeover.go), and state export and
// import (stateport.go). Other files to know:
//
//   - app.go, args.go: the tree of commands; options in any place on the line
//   - exit.go: exit codes and hints
//   - wire.go, sinks.go, oauth.go, hooks.go: from the configuration to accounts, sinks,
//     access tokens and hook commands
//   - daemon.go, monitor.go, daemonlogin.go: signals and reloads; metrics, health and
//     the service manager; polls that follow a login
//   - reporter.go, text.go, json.go, tell.go, progress.go: what a poll reports, and how
//   - words.go, table.go, uid.go: numbers, tables and unique-ids for people
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

// stdio holds the standard streams of a run, which tests replace. Results go to out,
// errors and progress to err. A command asks questions only if in is a terminal.
type stdio struct {
	in       *os.File // nil for none
	out, err io.Writer
	finder   discover.Finder // finds the server of a mail address for mailhaul init
}

// run runs the command that args name and returns the exit code. args[0] is the name
// of the program.
func run(ctx context.Context, args []string, std stdio) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(std.err, "mailhaul: error: this is a bug in mailhaul: %v\n%s", r, debug.Stack())
			code = exitInternal
		}
	}()
	// A closed pipe on our output must not kill a poll half-way.
	defer notePipes()()
	out := &output{w: std.out}
	std.out = out
	app := newApp(std)
	err := out.verdict(app.RunContext(ctx, moveOptionsFirst(app, args)))
	printError(std, err)
	return exitCode(err)
}
