// Bench measures mailhaul beside other fetchers, against the same server, in
// the same minutes, and beside a drain: a client that only reads what the
// server sends, and so shows what the rest costs.
//
//	go run ./cmd/mailhaul/internal/bench -scenario a,c -runs 3
//
// Every delivery is verified: who has lost, doubled or changed a message has
// FAILED. docs/benchmarks.md explains the rest.
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
	// A server and folders are to be removed, even if nobody reads on.
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

// run is the whole program. What it starts of itself does other things.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	if os.Getenv(roleVariable) == "launch" {
		return serveLaunch(os.Stdin, os.Stdout)
	}
	if len(args) == 2 && args[0] == drainName {
		return drain(args[1])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errs)
	only := flags.String("scenario", "", "scenarios to run, as `a,c`; default: all")
	tools := flags.String("tools", "", "programs to run, as `drain,mailhaul,mpop`; default: all that are installed")
	runs := flags.Int("runs", 5, "how often each runs; the median counts")
	patience := flags.Duration("patience", 30*time.Second, "who takes longer runs once only")
	limit := flags.Duration("limit", 10*time.Minute, "how long a run may take")
	dir := flags.String("dir", "", "where the fetchers write, on the disk that is to be measured; default: where temporary files go")
	figures := flags.String("figures", filepath.Join(os.TempDir(), "mailhaul-bench.json"), "`FILE` for all figures; what it holds of other scenarios is kept")
	report := flags.String("out", "", "`FILE` for the report, in Markdown")
	program := flags.String("mailhaul", "", "the mailhaul to measure; default: built from the sources")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := chooseScenarios(*only)
	if err != nil {
		return err
	}
	b := &bench{log: errs, runs: max(*runs, 1), slowRun: *patience, runLimit: *limit, syncDisks: func() { syscall.Sync() }}
	if *tools != "" {
		b.tools = strings.Split(*tools, ",")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer b.tearDown()
	if err := b.setUp(ctx, *dir); err != nil {
		return err
	}
	if *program != "" {
		b.mailhaulPath = filepath.Join(b.diskDir, "mailhaul")
		err = copyFile(b.mailhaulPath, *program, 0o755)
	} else {
		err = b.build(ctx)
	}
	if err != nil {
		return err
	}
	m, err := b.describeMachine(ctx)
	if err != nil {
		return err
	}
	f, err := readFigures(*figures, m)
	if err != nil {
		return err
	}
	for _, sc := range wanted {
		o, err := b.measure(ctx, sc)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", sc.name, err)
		}
		f.Outcomes[sc.name] = o
		if err := writeJSON(*figures, f); err != nil {
			return err
		}
		f.print(out, sc.name)
	}
	if *report == "" {
		return nil
	}
	text, err := f.report()
	if err != nil {
		return err
	}
	return os.WriteFile(*report, []byte(text), 0o644)
}

// choose returns the scenarios that are named in a list.
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

// print writes what came of a scenario.
func (f *Figures) print(out io.Writer, name string) {
	for _, s := range f.sections() {
		if s.Name != name {
			continue
		}
		fmt.Fprintf(out, "\n%s  %s\n\n%s\n", s.Name, s.Title, s.Table)
		for _, note := range s.Notes {
			fmt.Fprintln(out, note)
		}
	}
}
