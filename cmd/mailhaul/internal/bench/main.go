// Bench compares mailhaul with other fetchers, and with the drain: a client that only
// writes to files what the server sends, and so shows the least time that is possible.
// All use the same server and take turns.
//
//	go run ./cmd/mailhaul/internal/bench -scenario a,c -runs 3
//
// The mail is verified after each run. A contender that has lost, duplicated or changed a
// message is shown as FAILED. docs/benchmarks.md, which this program writes, says more.
//
//   - main.go has the flags, bench.go sets everything up.
//   - scenario.go has the scenarios and their targets, run.go runs one of them.
//   - contender.go has the drain and mailhaul as contenders, peers.go the other fetchers;
//     drain.go is the drain itself, and client.go its POP3.
//   - launch.go runs a contender's processes and measures them; strace.go counts their
//     syncs.
//   - server.go runs Dovecot, which relay.go puts at a distance; mail.go composes the
//     messages, and verify.go finds them again.
//   - result.go has the figures, machine.go says where they are from, and report.go and
//     report.md.tmpl show them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// On SIGPIPE, too, the server is stopped and the folders are removed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the whole program. It starts copies of itself as the launcher and the drain.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if os.Getenv(roleVariable) == "launch" {
		return runLauncher(os.Stdin, os.Stdout)
	}
	if len(args) == 2 && args[0] == drainName {
		return drain(args[1])
	}
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	b := &bench{
		log: stderr, runs: max(o.runs, 1), slowRun: o.patience, runLimit: o.limit, tools: o.tools,
		syncDisks: func() { syscall.Sync() },
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer b.tearDown()
	if err := b.setUp(ctx, o.dir); err != nil {
		return err
	}
	if err := b.installMailhaul(ctx, o.mailhaul); err != nil {
		return err
	}
	m, err := b.describeMachine(ctx)
	if err != nil {
		return err
	}
	f, err := readFigures(o.figures, m)
	if err != nil {
		return err
	}
	for _, sc := range o.scenarios {
		outcome, err := b.measure(ctx, sc)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", sc.name, err)
		}
		f.Outcomes[sc.name] = outcome
		if err := writeJSON(o.figures, f); err != nil {
			return err
		}
		f.print(stdout, sc.name)
	}
	if o.report == "" {
		return nil
	}
	text, err := f.report()
	if err != nil {
		return err
	}
	return os.WriteFile(o.report, []byte(text), 0o644)
}

// options are the flags of the command line.
type options struct {
	scenarios []scenario
	tools     []string // nil if all are wanted
	runs      int
	patience  time.Duration
	limit     time.Duration
	dir       string
	figures   string
	report    string // "" if no report is wanted
	mailhaul  string // "" if it is to be built
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	names := flags.String("scenario", "", "scenarios to run, as `a,c`; default: all")
	tools := flags.String("tools", "", "programs to run, as `drain,mailhaul,mpop`; default: all that are installed")
	flags.IntVar(&o.runs, "runs", 5, "how often each runs; the median counts")
	flags.DurationVar(&o.patience, "patience", 30*time.Second, "who takes longer runs once only")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "how long a run may take")
	flags.StringVar(&o.dir, "dir", "", "where the fetchers write, on the disk that is to be measured; default: where temporary files go")
	flags.StringVar(&o.figures, "figures", filepath.Join(os.TempDir(), "mailhaul-bench.json"), "`FILE` for all figures; what it holds of other scenarios is kept")
	flags.StringVar(&o.report, "out", "", "`FILE` for the report, in Markdown")
	flags.StringVar(&o.mailhaul, "mailhaul", "", "the mailhaul to measure; default: built from the sources")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *tools != "" {
		o.tools = strings.Split(*tools, ",")
	}
	var err error
	o.scenarios, err = chooseScenarios(*names)
	return o, err
}

// chooseScenarios returns the scenarios in a list of names, all if it is empty.
func chooseScenarios(list string) ([]scenario, error) {
	if list == "" {
		return scenarios, nil
	}
	var chosen []scenario
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}
