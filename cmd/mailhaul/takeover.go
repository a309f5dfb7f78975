package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
)

// fetcher is another mail fetcher whose configuration can be translated.
type fetcher struct {
	name     string
	maxFiles int // that its configuration may have; -1 is any number
	read     func(ctx context.Context, std stdio, files []string) (*takeover.Config, error)
}

// fetchers are the arguments of mailhaul import.
var fetchers = []fetcher{
	{"fetchmail", 1, readFetchmail},
	{"getmail", -1, fromFiles(takeover.Getmail)},
	{"mpop", 1, fromFile(takeover.Mpop)},
	{"fdm", 1, fromFile(takeover.Fdm)},
}

func fetcherNames() (names []string) {
	for _, f := range fetchers {
		names = append(names, f.name)
	}
	return names
}

func takeoverCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "write a configuration from that of another fetcher",
		ArgsUsage: "FETCHER [FILE…]",
		Description: "FETCHER is fetchmail, getmail, mpop or fdm. It reads that one's configuration, writes\n" +
			"one for mailhaul, tells what it could not translate, and what to do next. It connects\n" +
			"to no server. An existing configuration is never changed. Passwords go into the file\n" +
			"as they were, also those in ~/.netrc, so that only its owner may read it.\n\n" +
			"FILE is the other's configuration, if it is not in its usual place. Of getmail, each\n" +
			"file is an account. fetchmail itself is asked for its own, by --configdump; - for FILE\n" +
			"reads such a dump from standard input, which may be made on another machine.\n\n" +
			"Exit codes: 0 written; 64 a configuration exists; 74 it cannot be written; 78 that of\n" +
			"the other cannot be read, or has no POP3 account.",
		Flags: []cli.Flag{
			newConfigFlag(),
			toggle("print", "write it to standard output, with the passwords, and remarks to standard error"),
		},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runTakeover(c, std) },
	}
}

// runTakeover translates the configuration of the fetcher that the first argument names,
// and writes it to a new file or, with --print, to standard output.
func runTakeover(c *cli.Context, std stdio) error {
	args, path, toStdout := c.Args().Slice(), c.String("config"), c.Bool("print")
	from, err := chooseFetcher(args)
	switch {
	case err != nil:
		return err
	case toStdout && path != "":
		return usagef("leave one of them out", "--config has no effect with --print")
	case !toStdout:
		if path, err = newConfigPath(path); err != nil {
			return err
		}
	}
	translated, err := from.read(c.Context, std, args[1:])
	if err != nil {
		return err
	}
	for i, a := range translated.Accounts {
		translated.Accounts[i].SeenFileMissing = a.SeenFile != "" && !fileExists(a.SeenFile)
	}
	if toStdout || len(translated.Accounts) == 0 {
		writeRemarks(std.err, translated)
	}
	if len(translated.Accounts) == 0 {
		return &failure{fmt.Errorf("%s has no account that mailhaul could poll: nothing was written", from.name), exitConfig,
			"name its file, if that is in no usual place; mailhaul init writes a first configuration"}
	}
	text := translated.YAML(from.name)
	if toStdout {
		_, err := io.WriteString(std.out, text)
		return err
	}
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = writeNew(path, text)
	}
	if err != nil {
		return &failure{err, exitMachine, ""}
	}
	reportTakeover(std.out, from.name, translated, path, text)
	return nil
}

// chooseFetcher returns the fetcher that args[0] names, which the files that follow must
// suit.
func chooseFetcher(args []string) (fetcher, error) {
	known := "known: " + strings.Join(fetcherNames(), ", ")
	if len(args) == 0 {
		return fetcher{}, usagef(known, "mailhaul import takes the name of a fetcher")
	}
	i := slices.Index(fetcherNames(), args[0])
	if i < 0 {
		return fetcher{}, usagef(known+"; docs/migrating.md helps with others", "there is no fetcher %q", args[0])
	}
	from, files := fetchers[i], args[1:]
	if from.maxFiles >= 0 && len(files) > from.maxFiles {
		return fetcher{}, usagef("", "mailhaul import %s takes no more than %s, but was given %q", from.name, count(from.maxFiles, "file"), files[from.maxFiles])
	}
	return from, nil
}

// writeRemarks writes the remarks, a line each.
func writeRemarks(out io.Writer, c *takeover.Config) {
	for _, group := range c.GroupedRemarks() {
		fmt.Fprintf(out, "%s\n", clean(group.String()))
	}
}

// reportTakeover says what was written to path, the remarks, and what to do next. text is
// the configuration.
func reportTakeover(out io.Writer, from string, c *takeover.Config, path, text string) {
	var enabled []takeover.Account
	for _, a := range c.Accounts {
		if !a.Disabled {
			enabled = append(enabled, a)
		}
	}
	fmt.Fprintf(out, "wrote %s: %s, %s", tilde(path), count(len(enabled), "account"), count(len(c.Sinks), "sink"))
	if disabled := len(c.Accounts) - len(enabled); disabled > 0 {
		fmt.Fprintf(out, "; %s as a comment", count(disabled, "account"))
	}
	fmt.Fprintln(out)
	if len(c.Remarks) > 0 {
		fmt.Fprintln(out)
		writeRemarks(out, c)
	}
	if len(enabled) == 0 {
		fmt.Fprintf(out, "\nLeft to do: all accounts are comments in the file: do what is said of one there, and take the # away.\n")
	} else if _, err := config.Parse(path, []byte(text)); err != nil {
		fmt.Fprintf(out, "\nLeft to do: %v\n", err)
	}
	writeTakeoverSteps(out, from, enabled, configOption(path))
}

// writeTakeoverSteps writes the commands to run next. option is the --config for them.
func writeTakeoverSteps(out io.Writer, from string, enabled []takeover.Account, option string) {
	fmt.Fprintf(out, "\nNext, once %s is stopped for good:\n  %-34s # try it, and see what is amiss\n", from, "mailhaul check"+option)
	purpose := "fetch it"
	for _, a := range enabled {
		if a.SeenFile == "" {
			continue
		}
		purpose = "not before the lines above: it would fetch all mail once more"
		if a.SeenFileMissing {
			fmt.Fprintf(out, "  %-34s # right after a last run of %s, for there is no %s: all on the server counts as fetched\n",
				"mailhaul state adopt "+a.Name+option, from, clean(tilde(a.SeenFile)))
		} else {
			fmt.Fprintf(out, "  mailhaul state adopt %s --from %s%s\n", a.Name, shellQuoted(a.SeenFile), option)
		}
	}
	fmt.Fprintf(out, "  %-34s # %s\n", "mailhaul fetch"+option, purpose)
}

// fileExists reports whether a file exists. The path may begin with ~/.
func fileExists(path string) bool {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, _ := os.UserHomeDir()
		path = filepath.Join(home, rest)
	}
	_, err := os.Stat(path)
	return err == nil
}

// fromFile is fromFiles for a fetcher whose configuration is in one file. read gets no path
// for the usual one.
func fromFile(read func(path, home string) (*takeover.Config, error)) func(context.Context, stdio, []string) (*takeover.Config, error) {
	return fromFiles(func(files []string, home string) (*takeover.Config, error) {
		path := ""
		if len(files) > 0 {
			path = files[0]
		}
		return read(path, home)
	})
}

// fromFiles returns the read function of a fetcher whose configuration is in files. read
// gets their absolute paths, none for the usual ones, and the home folder.
func fromFiles(read func(files []string, home string) (*takeover.Config, error)) func(context.Context, stdio, []string) (*takeover.Config, error) {
	return func(_ context.Context, _ stdio, files []string) (*takeover.Config, error) {
		home, err := homeFolder()
		if err != nil {
			return nil, err
		}
		paths := make([]string, len(files))
		for i, file := range files {
			if paths[i], err = filepath.Abs(file); err != nil {
				return nil, err
			}
		}
		c, err := read(paths, home)
		if err == nil {
			return c, nil
		}
		hint := "correct the file, or name another"
		if len(files) == 0 && errors.Is(err, fs.ErrNotExist) {
			hint = "name its file, if that is in no usual place"
		}
		return nil, &failure{err, exitConfig, hint}
	}
}

func homeFolder() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usagef("set HOME", "there is no home folder")
	}
	return home, nil
}

// maxDumpSize bounds a dump from standard input, in octets.
const maxDumpSize = 64 << 20

// dumpElsewhereHint says how to bring the dump of fetchmail from another machine.
const dumpElsewhereHint = "where it is: (umask 077; fetchmail --configdump >dump); here: mailhaul import fetchmail - <dump"

// fetchmailQuote matches what an error of fetchmail quotes of the fetchmailrc, which may
// be a password.
var fetchmailQuote = regexp.MustCompile(`(?m) at \S.*$`)

// readFetchmail translates the fetchmailrc that fetchmail finds, the one in files, or
// with - a dump from standard input.
func readFetchmail(ctx context.Context, std stdio, files []string) (*takeover.Config, error) {
	var dump []byte
	var err error
	if len(files) == 1 && files[0] == "-" {
		if std.in == nil {
			return nil, usagef(dumpElsewhereHint, "there is no standard input to read a dump from")
		}
		if dump, err = io.ReadAll(io.LimitReader(std.in, maxDumpSize)); err != nil {
			return nil, &failure{err, exitConfig, ""}
		}
	} else if dump, err = fetchmailDump(ctx, files); err != nil {
		return nil, err
	}
	home, err := homeFolder()
	if err != nil {
		return nil, err
	}
	c, err := takeover.Fetchmail(string(dump), home)
	if err != nil {
		return nil, &failure{fmt.Errorf("the configuration of fetchmail: %w", err), exitConfig, "name the fetchmailrc; or, " + dumpElsewhereHint}
	}
	return c, nil
}

// fetchmailDump returns what fetchmail --configdump prints. It polls nothing.
func fetchmailDump(ctx context.Context, files []string) ([]byte, error) {
	args := []string{"--configdump"}
	if len(files) == 1 {
		file, err := filepath.Abs(files[0]) // it may begin with -
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(file); err != nil { // fetchmail silently takes it for empty
			return nil, &failure{err, exitConfig, ""}
		}
		args = append(args, "--fetchmailrc", file)
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, "fetchmail", args...)
	c.Env = append(os.Environ(), "LC_ALL=C") // we read its errors
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, &failure{errors.New("fetchmail is not installed here, and only it can read its fetchmailrc"), exitConfig, dumpElsewhereHint}
	}
	if err != nil {
		said := fetchmailQuote.ReplaceAllString(strings.TrimSpace(errs.String()), "")
		lines := strings.Split(said, "\n")
		return nil, &failure{fmt.Errorf("fetchmail --configdump: %w: %s", err, clean(lines[len(lines)-1])), exitConfig,
			"correct the fetchmailrc, or name another"}
	}
	return out.Bytes(), nil
}
