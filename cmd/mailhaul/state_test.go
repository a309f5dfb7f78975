package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
	"github.com/mailhaul/mailhaul/fetch/state"
)

const workConfig = `
state: state
sinks: { home: { maildir: Maildir } }
defaults: { server: localhost, user: me, password_env: X }
accounts: { work: {}, office: {} }
`

// A person at a terminal is asked, and only a yes is one.
func TestConfirm(t *testing.T) {
	for _, test := range []struct {
		name, keys string
		code       int
		left       int
	}{
		{"yes", "y\r", exitOK, 0},
		{"in full", "Yes\r", exitOK, 0},
		{"no", "n\r", exitPerson, 1},
		{"Enter alone", "\r", exitPerson, 1},
		{"something else", "yep\r", exitPerson, 1},
		{"the end of input", "\x04", exitPerson, 1},
		{"an interrupt", "\x03", -1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			config := configFile(t, workConfig)
			folder := filepath.Join(filepath.Dir(config), "state")
			adopted(t, folder)

			term := ttytest.Start(t, exec.Command("mailhaul", "state", "forget", "-c", config, "work"), 80, 24)
			term.Await("Forget the account work? [y/N]")
			term.Type(test.keys)
			if code := term.Exit(); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			store, err := state.Open(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			all, err := store.Accounts(t.Context())
			if err != nil || len(all) != test.left {
				t.Errorf("remembered: %v, %v", all, err)
			}
		})
	}
}

// What is promised for an account could not be told from what is left behind by
// another of its old name.
func TestRenameOfWhatIsOnItsWay(t *testing.T) {
	config := configFile(t, workConfig)
	store, err := state.Open(t.Context(), filepath.Join(filepath.Dir(config), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Promise(t.Context(), "work", []state.Promise{{UID: "a", Sink: "home", Token: "t"}}); err != nil {
		t.Fatal(err)
	}
	var out, said strings.Builder
	code := run(t.Context(), []string{"mailhaul", "state", "rename", "-c", config, "-y", "work", "office"}, stdio{out: &out, err: &said})
	if want := "mailhaul fetch work settles"; code != exitUsage || !strings.Contains(said.String(), want) {
		t.Errorf("exit code %d: %s", code, said.String())
	}
	if open, err := store.Promises(t.Context(), "work"); err != nil || len(open) != 1 {
		t.Errorf("promises: %v, %v", open, err)
	}
}

// adopted makes a state in which one message of the account work was adopted.
func adopted(t *testing.T, dir string) {
	t.Helper()
	store, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Adopt(t.Context(), "work", []state.Adoption{{UID: "a"}}); err != nil {
		t.Fatal(err)
	}
}
