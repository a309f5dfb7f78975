package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch/state"
)

const workConfig = `
state: state
sinks: { home: { maildir: Maildir } }
defaults: { server: localhost, user: me, password_env: X }
accounts: { work: {}, office: {} }
`

// state forget at a terminal asks, and only "y" or "yes" is a yes.
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
			adoptOne(t, folder)

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

// An account with an open promise cannot be renamed: what its sink has left behind would
// no longer be known as the account's.
func TestRenameWithOpenPromise(t *testing.T) {
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

// adoptOne makes a state in which one message of the account work was adoptOne.
func adoptOne(t *testing.T, dir string) {
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

// A broken sink of another account does not keep an account from being forgotten.
func TestForgetBesideBrokenSink(t *testing.T) {
	file := configFile(t, `
state: state
sinks: { home: { maildir: Maildir }, broken: { maildir: file/Maildir } }
defaults: { server: localhost, user: me, password_env: X }
accounts: { work: { deliver: home }, office: { deliver: broken } }
`)
	dir := filepath.Dir(file)
	adoptOne(t, filepath.Join(dir, "state"))
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said strings.Builder
	code := run(t.Context(), []string{"mailhaul", "state", "forget", "-c", file, "-y", "work"}, stdio{out: &out, err: &said})
	if code != exitOK || !strings.Contains(out.String(), "work: forgotten") || !strings.Contains(said.String(), "warning: ") {
		t.Errorf("exit code %d: %s%s", code, out.String(), said.String())
	}
}

// crashingFS is a file system that fails for good in the middle of a write to the file
// path, as if the process had died.
type crashingFS struct {
	durable.FS
	path string
	dead *bool
}

var errDead = errors.New("dead")

func (d crashingFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if *d.dead {
		return nil, errDead
	}
	f, err := d.FS.OpenFile(name, flag, perm)
	return dyingFile{f, d}, err
}

func (d crashingFS) Remove(name string) error {
	if *d.dead {
		return errDead
	}
	return d.FS.Remove(name)
}

type dyingFile struct {
	durable.File
	crashingFS
}

func (f dyingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.Name() != f.path || *f.dead {
		return f.File.WriteAt(p, off)
	}
	*f.dead = true
	n, _ := f.File.WriteAt(p[:len(p)/2], off)
	return n, errDead
}

func (f dyingFile) Truncate(size int64) error {
	if *f.dead {
		return errDead
	}
	return f.File.Truncate(size)
}

// A message that a crash has torn in an mbox is completed before its spool file is removed
// with the account.
func TestForgetAccountWithTornMessage(t *testing.T) {
	file := configFile(t, `
state: state
sinks:
  box: { mbox: mbox }
  b: { mbox: b }
  c: { mbox: c }
  d: { mbox: d }
  e: { mda: [cat] }
  f: { mda: [cat] }
  g: { mda: [cat] }
accounts: { work: { server: localhost, user: me, password_env: X, deliver: box } }
`)
	dir := filepath.Dir(file)
	folder, path := filepath.Join(dir, "state"), filepath.Join(dir, "mbox")
	adoptOne(t, folder)
	system := crashingFS{durable.OS, path, new(bool)}
	sink, err := mbox.New(path, mbox.Options{FS: system, Spool: spool.New(filepath.Join(folder, "spool"), system)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := sink.Begin(t.Context())
	if err == nil {
		_, err = b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader("Subject: long\n\n"+strings.Repeat("line\n", 100)))
	}
	if err == nil {
		_, err = b.Prepare(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), func(deliver.Receipt) error { return nil }); !*system.dead {
		t.Fatalf("it did not die: %v", err)
	}

	var out, said strings.Builder
	code := run(t.Context(), []string{"mailhaul", "state", "forget", "-c", file, "-y", "work"}, stdio{out: &out, err: &said})
	text, err := os.ReadFile(path)
	if code != exitOK || err != nil || strings.Count(string(text), "line\n") != 100 {
		t.Errorf("exit code %d: %s%v\n%s", code, said.String(), err, text)
	}
	if _, err := os.Stat(path + ".lock"); err == nil {
		t.Error("it is still locked")
	}
}

// A poll sees by a missing message that unique-ids have moved. Once that message is
// forgotten, the others are in doubt.
func TestForgetMissingMessage(t *testing.T) {
	for uid, inDoubt := range map[string]bool{"gone": true, "missing": true, "kept": false} {
		file := configFile(t, `
state: state
sinks: { home: { maildir: Maildir } }
defaults: { server: localhost, user: me, password_env: X }
accounts: { work: {} }
`)
		store, err := state.Open(t.Context(), filepath.Join(filepath.Dir(file), "state"))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		row := func(uid string, phase state.Phase, deleted, missing int64) state.Message {
			return state.Message{Row: state.Row{UID: uid, Phase: phase, Landed: 1, Deleted: deleted, Missing: missing}}
		}
		_, err = store.Import(t.Context(), []state.Export{{Account: "work", Messages: []state.Message{
			row("gone", state.Deleted, 2, 0), row("missing", state.Landed, 0, 2), row("kept", state.Landed, 0, 0), row("other", state.Landed, 0, 0),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if code := run(t.Context(), []string{"mailhaul", "state", "forget", "-c", file, "-y", "work", uid}, stdio{out: &out, err: &out}); code != exitOK {
			t.Fatalf("exit code %d: %s", code, out.String())
		}
		rows, err := store.Rows(t.Context(), "work")
		if err != nil || len(rows) != 3 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, r := range rows {
			if r.UID == uid || r.UID == "other" && (r.Missing != 0) != inDoubt {
				t.Errorf("%s forgotten, left: %+v", uid, r)
			}
		}
	}
}

// Of very many accounts in the state, the hint for a wrong name lists some.
func TestRememberedOfMany(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	store, err := state.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for n := range 100 {
		if err := store.Adopt(t.Context(), fmt.Sprintf("a%02d", n), []state.Adoption{{UID: "1"}}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = rememberedAccount(t.Context(), &config.Config{State: folder}, store, "a100")
	if hint := hintOf(err); !strings.HasPrefix(hint, "remembered are a00, a01, ") || !strings.HasSuffix(hint, ", a19 and 80 more") {
		t.Errorf("%v, hint %q", err, hint)
	}
}

// Of thousands of accounts that are no longer in the configuration, some are named.
func TestManyUnconfiguredAccounts(t *testing.T) {
	var all []state.Account
	for i := range 2000 {
		all = append(all, state.Account{Name: fmt.Sprintf("former-%04d", i), Messages: 1})
	}
	var out strings.Builder
	writeUnconfigured(&out, &config.Config{}, all)
	if text := out.String(); len(text) > 500 || !strings.Contains(text, "former-0000, former-0001") || !strings.Contains(text, " and 1980 more\n") {
		t.Errorf("%d bytes: %.500s", len(text), text)
	}
}

// A file for state import may be made by somebody else: no text in it controls the
// terminal or begins a line of output.
func TestImportOfHostileFile(t *testing.T) {
	config := configFile(t, workConfig)
	file := filepath.Join(filepath.Dir(config), "file")
	const lines = `{"mailhaul":"state","version":3}
{"account":{"name":"work"}}
{"message":{"uid":"a","phase":"refused","octets":512,"seen":"2026-11-28T16:00:00Z","reason":"r\u001b[2J","deliveries":[{"sink":"s\u001b[2J","where":"w\u001b[2J","promised":"2026-11-28T16:00:00Z","landed":"2026-11-28T16:00:00Z"}]}}
{"message":{"uid":"b","phase":"promised","octets":512,"seen":"2026-11-28T16:00:00Z","deliveries":[{"sink":"s\u001b[2J"}]}}
{"poll":{"started":"2026-11-28T16:00:00Z","ended":"2026-11-28T16:00:00Z","result":"r\u001b[2J","error":"e\u001b[2J","hint":"h\u001b[2J"}}
{"account":{"name":"x\u001b[2K\nyours"}}
{"end":{"accounts":2,"messages":2,"polls":1,"days":0}}
`
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"state", "import", "--yes", file}, {"state", "import", "--yes", file}, {"state", "list"}, {"status", "-v"},
		{"explain", "work", "a"}, {"explain", "work", "b"},
	} {
		var said bytes.Buffer
		code := run(t.Context(), append([]string{"mailhaul"}, append(args, "--config", config)...), stdio{out: &said, err: &said})
		if text := said.String(); strings.Contains(text, "\x1b") || strings.Contains(text, "\nyours") || code == exitInternal {
			t.Errorf("%s: exit code %d:\n%q", args, code, text)
		}
	}
}
