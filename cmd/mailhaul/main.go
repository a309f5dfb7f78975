// Command mailhaul fetches mail from POP3 servers into Maildirs, mboxes, other
// servers and programs. It deletes a message from its server only once it is
// safe there.
//
// The packages fetch, deliver and pop3proto do the work and report typed events and
// errors. This package does all the talking. Most commands take the steps of [runFetch]:
//
//  1. [run] parses the command line by the commands of [newApp] (app.go, args.go).
//  2. [loadAndWire] reads the configuration and makes what it describes (wire.go): the
//     sinks (sinks.go), the sources of access tokens (oauth.go), and for each account a
//     fetch.Account with its hooks (hooks.go).
//  3. The command opens the state database, to change it or only to read it (state.go).
//  4. fetch.Once, fetch.Each or fetch.Run polls the accounts. Events go to a [reporter]
//     (reporter.go) that writes text or JSON (textreporter.go, jsonreporter.go); others
//     wrap it (digest.go, alertreporter.go, progress.go). trace.go records the dialogue.
//  5. The command returns nil, a [failure] with an exit code and a hint, or an [outcome]
//     if it has reported on every account. exit.go maps it to the exit code.
//
// Each command begins in the file of its name, such as fetch.go and stateretry.go; only
// config is in configcmd.go, and import in takeover.go. Some have more files:
//
//	fetch       progress.go, screen.go and speed.go draw the progress bars
//	daemon      daemonlogin.go (polls that follow a login), monitor.go (metrics, health,
//	            service manager), backlog.go (a log that nobody reads)
//	check       checklist.go (the report), probe.go (the sinks and the state)
//	list, plan  prospect.go (what becomes of a message), header.go, planjson.go
//	status      statustable.go, statusjson.go
//	init        questions.go, prompt.go, setup.go (the text of the configuration)
//	demo        demofiles.go
//
// The rest is shared: what a person sees (format.go, table.go, terminal.go, uid.go), the
// grants of OAuth (grants.go), JSON (json.go), questions of yes or no (confirm.go), the writers (output.go,
// orderedreports.go), a new configuration file (newconfig.go), metrics_file (metrics.go),
// the notify command (notifier.go), signals (signals.go) and the Go runtime (tune.go).
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
	defer catchSIGPIPE()()
	out := &output{w: std.out}
	std.out = out
	app := newApp(std)
	err := out.resultOf(app.RunContext(ctx, moveOptionsFirst(app, args)))
	printError(std, err)
	return exitCode(err)
}
