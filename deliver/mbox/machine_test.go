package mbox_test

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// reboot kills the process and returns the file system with a lock file of another host name
// and boot, as after a container was created anew.
func reboot(t *testing.T, fsys *durabletest.FS) *durabletest.FS {
	t.Helper()
	fsys = fsys.Kill()
	f, err := fsys.OpenFile("/mail/inbox.lock", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	former := regexp.MustCompile(`host ".*" boot ".*"`).ReplaceAllString(string(text), `host "former" boot "former"`)
	if former == string(text) {
		t.Fatalf("the lock file holds %q", text)
	}
	write(t, fsys, "/mail/inbox.lock", former)
	return fsys
}

// After a reboot under another host name, a machine recognises its own lock file by the batch
// in its spool. Another machine, which has another spool, leaves the lock file alone.
func TestLockAfterRenameOfMachine(t *testing.T) {
	for name, next := range map[string]func(*testing.T, deliver.Sink, string){
		"Settle": func(t *testing.T, s deliver.Sink, token string) {
			if v, err := s.Settle(t.Context(), token); v != deliver.Landed || err != nil {
				t.Errorf("Settle = %v, %v", v, err)
			}
		},
		"Sweep of another account": func(t *testing.T, s deliver.Sink, _ string) {
			if err := s.Sweep(t.Context(), "other"); err != nil {
				t.Error(err)
			}
		},
		"Prepare": func(t *testing.T, s deliver.Sink, _ string) {
			put(t, s, deliver.Mail{Account: "other"}, "y\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := memory(t)
			b, err := openSink(t, fsys, "/mail").Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			token := prepareOne(t, b, "x\r\n")
			fsys = reboot(t, fsys)

			other, err := mbox.New("/mail/inbox", mbox.Options{FS: fsys, Spool: spool.New("/mail/other", fsys), Host: "here"})
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
			if _, err := fsys.Stat("/mail/inbox.lock"); err != nil {
				t.Errorf("another machine removed the lock file: %v", err)
			}

			// The process that takes over the lock is killed before it removes the file.
			fsys.OnOp(func(op durabletest.Op) error {
				if op.Verb == durabletest.Remove && op.Path == "/mail/inbox.lock" {
					return durabletest.ErrCrashed
				}
				return nil
			})
			_ = openSink(t, fsys, "/mail").Sweep(t.Context(), "other")
			fsys = reboot(t, fsys)

			next(t, openSink(t, fsys, "/mail"), token)
			if _, err := fsys.Stat("/mail/inbox.lock"); err == nil {
				t.Error("the lock file is still there")
			}
			got, err := read(fsys, "/mail")
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{"Settle": {"x\n"}, "Prepare": {"y\n"}}[name]
			if !slices.Equal(got, want) {
				t.Errorf("read %q, want %q", got, want)
			}
		})
	}
}

// prepareOne stages and prepares a message of account "work" and returns its token.
func prepareOne(t *testing.T, b deliver.Batch, wire string) string {
	t.Helper()
	if _, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader(wire)); err != nil {
		t.Fatal(err)
	}
	promises, err := b.Prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return promises[0].Token
}
