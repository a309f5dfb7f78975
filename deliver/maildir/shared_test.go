package maildir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

const mine, his = 4711, 4712

// asMe names the Maildir at which a process of the tests begins a batch, as mine.
const asMe = "MAILHAUL_TEST_AS_ME"

func TestMain(m *testing.M) {
	path := os.Getenv(asMe)
	if path == "" {
		os.Exit(m.Run())
	}
	err := syscall.Setuid(mine)
	if err == nil {
		var sink *maildir.Sink
		if sink, err = maildir.New(path, maildir.Options{}); err == nil {
			_, err = sink.Begin(context.Background())
		}
	}
	fmt.Println("Begin:", err)
}

const inShared = "in a folder where everybody may leave files"

// shared returns the path of a Maildir that is missing, in a folder where everybody
// may leave files, and a Maildir elsewhere.
func shared(t *testing.T) (path, elsewhere string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	base := t.TempDir()
	dir, elsewhere := filepath.Join(base, "spool"), filepath.Join(base, "elsewhere")
	err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chmod(base, 0o755), os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|os.ModeSticky))
	if err != nil {
		t.Fatal(err)
	}
	put(t, open(t, elsewhere, maildir.Options{}), "x\r\n")
	return filepath.Join(dir, "me"), elsewhere
}

// In a folder where everybody may leave files, mail does not go where another user
// could remove it.
func TestAnotherUsers(t *testing.T) {
	folder := func(owner int) func(path string) error {
		return func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777), os.Chown(path, owner, owner))
		}
	}
	for name, tc := range map[string]struct {
		leave func(path string) error
		said  string
	}{
		"nothing":    {func(string) error { return nil }, "Begin: <nil>\n"},
		"my folder":  {folder(mine), "Begin: <nil>\n"},
		"his folder": {folder(his), "a folder of another user, number 4712, " + inShared},
		"his link": {func(path string) error {
			return errors.Join(folder(mine)(path+"-other"), os.Symlink(path+"-other", path), os.Lchown(path, his, his))
		}, "a link of another user, number 4712, " + inShared},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := shared(t)
			link := filepath.Join(filepath.Dir(filepath.Dir(path)), "link")
			if err := errors.Join(tc.leave(path), os.Symlink(path, link)); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{path, link} {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), asMe+"="+path)
				if said, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(said), tc.said) {
					t.Errorf("it said %q, %v", said, err)
				}
			}
		})
	}
}

// mkdirHook calls before ahead of the first folder that is made.
type mkdirHook struct {
	durable.FS
	before func() error
}

func (h *mkdirHook) Mkdir(name string, perm fs.FileMode) error {
	if before := h.before; before != nil {
		h.before = nil
		if err := before(); err != nil {
			return err
		}
	}
	return h.FS.Mkdir(name, perm)
}

// What another user leaves there before the Maildir is made, or once it has been
// removed, is found out, too.
func TestLeftMeanwhile(t *testing.T) {
	path, elsewhere := shared(t)
	leave := func() error { return errors.Join(os.Symlink(elsewhere, path), os.Lchown(path, his, his)) }
	_, err := open(t, path, maildir.Options{FS: &mkdirHook{durable.OS, leave}}).Begin(t.Context())
	isFault(t, err, deliver.FaultOperator, inShared, "find out who")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, maildir.Options{})
	put(t, s, "x\r\n")
	if err := errors.Join(os.RemoveAll(path), leave()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Begin(t.Context())
	isFault(t, err, deliver.FaultOperator, inShared, "find out who")
}
