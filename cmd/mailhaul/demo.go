package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

func demoCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "fetch real mail from a server of its own, and verify that all of it arrives",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "into", Usage: "keep everything in `DIR`, which must be empty or missing", DefaultText: "a temporary folder"},
			toggle("clean", "remove the folder at the end"),
		},
		OnUsageError: badFlag,
		Before:       noArgs,
		Action: func(c *cli.Context) error {
			dir, err := demoFolder(c.String("into"))
			if err != nil {
				return err
			}
			if c.Bool("clean") {
				defer os.RemoveAll(dir)
			}
			return runDemo(c.Context, std, dir, c.Bool("clean"))
		},
	}
}

// demoFolder creates the folder of a demo. It refuses one that is not empty, since --clean
// would remove what is in it.
func demoFolder(into string) (string, error) {
	if into == "" {
		dir, err := os.MkdirTemp("", "mailhaul-demo-")
		return dir, demoFolderError(err)
	}
	dir, err := filepath.Abs(into)
	if err != nil {
		return "", err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", usagef("name a folder that is missing or empty", "%s is not empty", dir)
	}
	return dir, demoFolderError(os.MkdirAll(dir, 0o700))
}

// demoFolderError returns err as the failure to write to the folder of a demo; nil stays
// nil.
func demoFolderError(err error) error {
	if err == nil {
		return nil
	}
	return &failure{err, exitMachine, intoHint}
}

// intoHint is the hint for a folder that cannot be written to.
const intoHint = "name a folder that can be written with --into"

// runDemo starts a server, writes a configuration for it, fetches twice, and compares the
// delivered messages with those of the server.
func runDemo(ctx context.Context, std stdio, dir string, removeDir bool) error {
	say := func(format string, args ...any) { fmt.Fprintf(std.out, format+"\n", args...) }
	d := demo{dir: dir, server: pop3test.New(pop3test.Options{Behaviour: pop3test.Behaviour{Greeting: "mailhaul demo"}})}
	if err := d.addMessages(); err != nil {
		return err
	}
	if err := d.server.StartTLS(); err != nil {
		return &failure{err, exitMachine, ""}
	}
	defer d.server.Close()
	say("A POP3 server listens on %s, TLS from the first byte, with %s for %s.",
		d.server.Addr(), count(len(d.owners), "message"), count(len(demoUsers), "account"))

	config, err := d.writeFiles()
	if err != nil {
		return demoFolderError(err)
	}
	say("\n%s says:\n\n%s", d.path("config.yaml"), indentLines(config))
	for _, what := range []string{"The first run fetches all of it:", "The second finds nothing new, though some mail is still there:"} {
		args := []string{"mailhaul", "fetch", "--config", d.path("config.yaml")}
		say("\n%s\n\n    $ mailhaul fetch --config %s", what, shellQuoted(d.path("config.yaml")))
		var log strings.Builder
		code := run(ctx, args, stdio{out: std.out, err: &log})
		say("%s", indentLines(log.String()))
		if code != exitOK {
			hint := ""
			if code == exitMachine {
				hint = intoHint
			}
			return &failure{fmt.Errorf("the fetch ended with exit code %d", code), code, hint}
		}
	}
	if err := d.verify(); err != nil {
		return err
	}
	say("\nAll %s arrived once, byte for byte as the server had them, but for line ends\n"+
		"and the Received: line that mailhaul adds. Only what is to be kept is left on the server.", count(len(d.owners), "message"))
	if !removeDir {
		say("The mail lies in %s; to read it: mutt -f %s", d.path("Maildir"), shellQuoted(d.path("Maildir")))
	}
	return nil
}

// indentLines indents the lines of text by four blanks.
func indentLines(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
