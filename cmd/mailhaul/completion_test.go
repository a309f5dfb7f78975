package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

const completionConfig = `
sinks: { home: { maildir: Maildir }, cloud: { imap: imap.example.org, user: me, oauth: google } }
oauth: { google: { client_id: x } }
defaults: { deliver: home, server: pop.example.com, user: me, password_env: X }
accounts: { work: {}, window: {}, home: {} }
`

// A command line is completed by commands, options, their values, and names from the
// configuration. ":files" has the shell complete file names.
func TestCompletion(t *testing.T) {
	path := configFile(t, completionConfig)
	t.Setenv("MAILHAUL_CONFIG", path)
	for line, want := range map[string]string{
		"fe":                              "fetch",
		"sta":                             "status state",
		"help fe":                         "fetch",
		"state ":                          "list retry forget adopt rename export import",
		"state f":                         "forget",
		"__c":                             "",
		"nonsense ":                       "",
		"fetch ":                          "work window home",
		"fetch w":                         "work window",
		"fetch work ":                     "window home",
		"fetch -- w":                      "work window",
		"fetch -- -":                      "",
		"fetch --dr":                      "--dry-run",
		"fetch work --dr":                 "--dry-run",
		"fetch --he":                      "--help",
		"fetch --log-format ":             "auto text json",
		"fetch --log-format j":            "json",
		"fetch --log-format json h":       "home",
		"fetch --progress a":              "auto always",
		"list --sort s":                   "size subject state",
		"fetch --config ":                 ":files",
		"fetch -c missing ":               "",
		"fetch -c PATH h":                 "home",
		"fetch -nc ":                      ":files",
		"fetch -nqc PATH h":               "home",
		"fetch -nq h":                     "home",
		"fetch --config=PATH h":           "home",
		"fetch --config = PATH h":         "home", // which is how bash takes it apart
		"fetch --log-format=":             "--log-format=auto --log-format=text --log-format=json",
		"fetch --log-format=j":            "--log-format=json",
		"fetch --log-format =":            "auto text json",
		"fetch --log-format = j":          "json",
		"fetch --log-format = json h":     "home",
		"fetch --config=":                 ":files",
		"fetch --dry-run=":                "",
		"fetch --dry-run = true h":        "home",
		"fetch -- --log-format=":          "",
		"state forget -y w":               "work window",
		"state forget work ":              "",
		"state rename work w":             "window",
		"state import ":                   ":files",
		"state adopt work ":               "",
		"import f":                        "fetchmail fdm",
		"import ":                         "fetchmail getmail mpop fdm",
		"import fetchmail ":               ":files",
		"import getmail a ":               ":files",
		"state retry work ":               "window home",
		"state retry --a":                 "--all",
		"explain w":                       "work window",
		"login ":                          "cloud",
		"completion z":                    "zsh",
		"state export work window --conf": "--config",
	} {
		t.Setenv("MAILHAUL_CONFIG", path)
		words := strings.Split(line, " ")
		for i, w := range words {
			words[i] = strings.ReplaceAll(w, "PATH", path)
		}
		var got []string
		for _, c := range completeLine(newApp(stdio{}), words) {
			got = append(got, c.word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q is completed by %q, want %s", line, got, want)
		}
	}
	if err := os.WriteFile(path, []byte("accounts: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := completeLine(newApp(stdio{}), []string{"fetch", ""}); len(got) != 0 {
		t.Errorf("a broken configuration has the accounts %v", got)
	}
}

// Each shell completes what is typed at a terminal.
func TestCompletionInShells(t *testing.T) {
	path := configFile(t, completionConfig)
	for _, shell := range []struct {
		name  string
		start []string // its arguments
		setUp string   // what is typed first
	}{
		{"bash", []string{"--norc", "--noprofile", "-i"}, "source <(mailhaul completion bash); complete -p mailhaul"},
		{"zsh", []string{"-f", "-i"}, "autoload -U compinit; compinit -u -D; source <(mailhaul completion zsh); print ${_comps[mailhaul]}"},
		{"fish", []string{"--no-config", "-i"}, "mailhaul completion fish | source; complete -c mailhaul"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(servertest.Program(t, shell.name), shell.start...)
			cmd.Dir = filepath.Dir(path)
			// The shell reads no files of the user, and writes none.
			cmd.Env = append(os.Environ(), "MAILHAUL_CONFIG="+path, "HOME="+cmd.Dir, "PS1=> ", "HISTFILE=", "INPUTRC=",
				"XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "XDG_CACHE_HOME=", "XDG_RUNTIME_DIR="+cmd.Dir)
			term := ttytest.Start(t, cmd, 100, 30)
			term.Type(shell.setUp + "\r")
			term.Await("_mailhaul")
			for _, step := range []struct{ typed, want string }{
				{"mailhaul fetch --progress=al\t", "--progress=always"},
				{"\x15", ""}, // which takes all of it back
				{"mailhaul status --config=confi\t", "mailhaul status --config=config.yaml"},
				{"\x15", ""},
				{"mailhaul exp\t", "mailhaul explain"},
				{"--js\t", "mailhaul explain --json"},
				{"hom\t", "mailhaul explain --json home"},
				{"x --config confi\t", "mailhaul explain --json home x --config config.yaml"},
				{"\r", `"phase": "unknown"`},
			} {
				term.Type(step.typed)
				term.Await(step.want)
			}
			term.Type("exit\r")
			term.Exit()
		})
	}
}
