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

const ownUID, otherUID = 4711, 4712

// beginEnv makes the test binary a program that begins a batch as user ownUID, at the
// Maildir that the variable names, and prints the error.
const beginEnv = "MAILHAUL_TEST_AS_ME"

func TestMain(m *testing.M) {
	path := os.Getenv(beginEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	err := syscall.Setuid(ownUID)
	if err == nil {
		var sink *maildir.Sink
		if sink, err = maildir.New(path, maildir.Options{}); err == nil {
			_, err = sink.Begin(context.Background())
		}
	}
	fmt.Println("Begin:", err)
}

const inShared = "in a folder where everybody may leave files"

// sharedFolder creates a folder where everybody may create files. It returns the path of a
// Maildir in it that does not exist yet, and a Maildir elsewhere.
func sharedFolder(t *testing.T) (path, elsewhere string) {
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

// In a folder where everybody may create files, no mail is delivered to a folder or through
// a link of another user.
func TestMaildirOfAnotherUser(t *testing.T) {
	folder := func(owner int) func(path string) error {
		return func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777), os.Chown(path, owner, owner))
		}
	}
	for name, tc := range map[string]struct {
		create func(path string) error
		want   string // in the output
	}{
		"nothing":                {func(string) error { return nil }, "Begin: <nil>\n"},
		"own folder":             {folder(ownUID), "Begin: <nil>\n"},
		"folder of another user": {folder(otherUID), "a folder of another user, number 4712, " + inShared},
		"link of another user": {func(path string) error {
			return errors.Join(folder(ownUID)(path+"-other"), os.Symlink(path+"-other", path), os.Lchown(path, otherUID, otherUID))
		}, "a link of another user, number 4712, " + inShared},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := sharedFolder(t)
			link := filepath.Join(filepath.Dir(filepath.Dir(path)), "link")
			if err := errors.Join(tc.create(path), os.Symlink(path, link)); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{path, link} {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), beginEnv+"="+path)
				if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), tc.want) {
					t.Errorf("output %q, %v, want %q", output, err, tc.want)
				}
			}
		})
	}
}

// mkdirHook is a file system that calls before once, ahead of the first Mkdir.
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

// A link of another user is found even if it was created right before the Maildir, or in
// place of the Maildir of an open sink.
func TestLinkCreatedMeanwhile(t *testing.T) {
	path, elsewhere := sharedFolder(t)
	createLink := func() error { return errors.Join(os.Symlink(elsewhere, path), os.Lchown(path, otherUID, otherUID)) }
	_, err := open(t, path, maildir.Options{FS: &mkdirHook{durable.OS, createLink}}).Begin(t.Context())
	wantFault(t, err, deliver.FaultOperator, inShared, "find out who")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, maildir.Options{})
	put(t, s, "x\r\n")
	if err := errors.Join(os.RemoveAll(path), createLink()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Begin(t.Context())
	wantFault(t, err, deliver.FaultOperator, inShared, "find out who")
}
