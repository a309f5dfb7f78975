package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/manual"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

var update = flag.Bool("update", false, "write the manual pages anew")

const root = "../.."

// pages returns the manual pages as they should be, by file.
func pages(t *testing.T) map[string]string {
	t.Helper()
	example, err := os.ReadFile(root + "/config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		root + "/docs/mailhaul.1":      manual.Command(newApp(stdio{}), exitTable(t)),
		root + "/docs/mailhaul.yaml.5": manual.Config(example),
	}
}

// exitTable returns the exit codes that the README lists.
func exitTable(t *testing.T) (all []manual.Exit) {
	t.Helper()
	readme, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \|$`).FindAllStringSubmatch(string(readme), -1) {
		all = append(all, manual.Exit{Code: row[1], Meaning: row[2]})
	}
	if len(all) != len(exitCodeByClass)+3 {
		t.Fatalf("the README tells of %d exit codes, want %d", len(all), len(exitCodeByClass)+3)
	}
	return all
}

// The manual pages in docs are up to date.
func TestManual(t *testing.T) {
	for path, want := range pages(t) {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), want); diff != "" {
			t.Errorf("%s is out of date: run make man (-is +should be):\n%s", path, diff)
		}
	}
}

// Both pages pass mandoc's lint, and name every command, option and key.
func TestManualIsComplete(t *testing.T) {
	mandoc := servertest.Program(t, "mandoc")
	read := map[string]string{}
	for path, page := range pages(t) {
		lint := exec.Command(mandoc, "-T", "lint", "-W", "warning")
		lint.Stdin = strings.NewReader(page)
		if out, err := lint.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		show := exec.Command(mandoc, "-T", "utf8", "-O", "width=1000")
		show.Stdin = strings.NewReader(page)
		out, err := show.Output()
		if err != nil {
			t.Fatal(err)
		}
		// In bold a letter is printed over itself, in italics over a line.
		read[filepath.Base(path)] = regexp.MustCompile(".\b").ReplaceAllString(string(out), "")
	}

	app := newApp(stdio{})
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		for _, c := range append(c.Subcommands, c) {
			if c.Action == nil && len(c.Subcommands) > 0 {
				continue
			}
			var missing []string
			l := commandLine{app: app, command: c}
			for _, option := range l.optionNames()[1:] { // --help is not in the pages
				if !strings.Contains(read["mailhaul.1"], option.word) {
					missing = append(missing, option.word)
				}
			}
			if len(missing) > 0 || !strings.Contains(read["mailhaul.1"], c.Name) {
				t.Errorf("mailhaul(1) lacks the command %s or its options %q", c.Name, missing)
			}
		}
	}
	example, err := os.ReadFile(root + "/config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile(`(?m)^ *(?:# )?([a-z0-9_]+): `).FindAllStringSubmatch(string(example), -1)
	for _, key := range keys {
		if !strings.Contains(read["mailhaul.yaml.5"], key[1]+": ") {
			t.Errorf("mailhaul.yaml(5) lacks the key %s", key[1])
		}
	}
	if len(keys) < 50 {
		t.Errorf("config.example.yaml has %d keys only", len(keys))
	}
}
