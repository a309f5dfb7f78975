package mbox_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// sharedFolder creates a folder where everybody may create files, and a file of this user
// elsewhere, own. The functions of create put one of these in the place of the inbox: a link
// of another user to own, a hard link to own, or an mbox of another user.
func sharedFolder(t *testing.T) (dir, own string, create map[string]func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	const otherUID = 4712
	base := t.TempDir()
	dir, own = filepath.Join(base, "spool"), filepath.Join(base, "own")
	inbox := filepath.Join(dir, "inbox")
	err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chmod(base, 0o755), os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|os.ModeSticky),
		os.WriteFile(own, nil, 0o600), os.Chown(dir, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return dir, own, map[string]func() error{
		"a link":      func() error { return errors.Join(os.Symlink(own, inbox), os.Lchown(inbox, otherUID, otherUID)) },
		"a hard link": func() error { return os.Link(own, inbox) },
		"an mbox": func() error {
			return errors.Join(os.WriteFile(inbox, nil, 0o600), os.Chmod(inbox, 0o666), os.Chown(inbox, otherUID, otherUID))
		},
	}
}

// openHook is a file system that calls before, unless it is nil, ahead of the n-th time that
// the file at path is opened, counted from 0.
type openHook struct {
	durable.FS
	path   string
	n      int
	before func() error
}

func (h *openHook) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if name == h.path && h.before != nil {
		if h.n--; h.n < 0 {
			before := h.before
			h.before = nil
			if err := before(); err != nil {
				return nil, err
			}
		}
	}
	return h.FS.OpenFile(name, flag, perm)
}

// A link that another user creates after Begin is found by Prepare, even if it appears right
// before the mbox is opened or created.
func TestLinkCreatedMeanwhile(t *testing.T) {
	for _, what := range []string{"a link", "a hard link"} {
		for n, when := range []string{"as it is opened", "as it is created", "before Prepare"} {
			t.Run(what+" "+when, func(t *testing.T) {
				dir, own, create := sharedFolder(t)
				fsys := &openHook{FS: durable.OS, path: filepath.Join(dir, "inbox"), n: n, before: create[what]}
				b, err := openSink(t, fsys, dir).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer b.Abort()
				if _, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader("x\r\n")); err != nil {
					t.Fatal(err)
				}
				if when == "before Prepare" {
					if err := create[what](); err != nil {
						t.Fatal(err)
					}
					fsys.before = nil
				}
				_, err = b.Prepare(t.Context())
				if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Op, "in a folder where everybody may leave files") {
					t.Errorf("Prepare = %v", err)
				}
				if fi, err := os.Stat(own); err != nil || fi.Size() > 0 {
					t.Errorf("the file of this user: %v, %v", fi, err)
				}
			})
		}
	}
}

// A link of this user may lead into a shared folder. What it leads to is checked as well.
func TestOwnLinkIntoSharedFolder(t *testing.T) {
	for _, what := range []string{"a link", "a hard link", "an mbox"} {
		t.Run(what, func(t *testing.T) {
			dir, own, create := sharedFolder(t)
			const ownUID = 4711
			home := filepath.Join(filepath.Dir(dir), "home")
			link := filepath.Join(home, "inbox")
			err := errors.Join(os.Mkdir(home, 0o755), os.Symlink(filepath.Join(dir, "inbox"), link), os.Lchown(link, ownUID, ownUID),
				os.Chown(own, ownUID, ownUID), os.Chown(home, ownUID, ownUID))
			if err != nil {
				t.Fatal(err)
			}
			if output, err := beginInChild(home, ownUID); err != nil || !strings.HasPrefix(output, "Begin: <nil>\n") {
				t.Errorf("without an mbox: %q, %v", output, err)
			}
			if err := create[what](); err != nil {
				t.Fatal(err)
			}
			if output, err := beginInChild(home, ownUID); err != nil || !strings.Contains(output, "in a folder where everybody may leave files") {
				t.Errorf("output %q, %v", output, err)
			}
		})
	}
}

// A link to an mbox that does not exist yet is followed as well: other programs lock the mbox
// under its own name.
func TestDanglingLink(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "folder", "real")
	err := errors.Join(os.Mkdir(filepath.Dir(real), 0o700), os.Symlink("next", filepath.Join(dir, "inbox")),
		os.Symlink("folder/real", filepath.Join(dir, "next")), os.WriteFile(real+".lock", nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	wantBusy(t, durable.OS, dir, real+".lock")
	if err := os.Remove(real + ".lock"); err != nil {
		t.Fatal(err)
	}
	sink := openSink(t, durable.OS, dir)
	put(t, sink, deliver.Mail{}, "x\r\n")
	if b, err := os.ReadFile(real); err != nil || !strings.HasSuffix(string(b), "\nx\n\n") {
		t.Errorf("the linked file holds %q, %v", b, err)
	}
}

// swapping is a file system that puts another file, path+".2", in the place of path while it
// is opened or examined, the first times that this happens.
type swapping struct {
	durable.FS
	path  string
	times int
}

// swap exchanges the files and returns the function that exchanges them again.
func (f *swapping) swap() (undo func()) {
	if f.times--; f.times < 0 {
		return func() {}
	}
	exchange := func() {
		for _, names := range [][2]string{{f.path, f.path + ".1"}, {f.path + ".2", f.path}, {f.path + ".1", f.path + ".2"}} {
			if err := os.Rename(names[0], names[1]); err != nil {
				panic(err)
			}
		}
	}
	exchange()
	return exchange
}

func (f *swapping) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if name == f.path {
		defer f.swap()()
	}
	return f.FS.OpenFile(name, flag, perm)
}

func (f *swapping) Stat(name string) (fs.FileInfo, error) {
	if name == f.path {
		defer f.swap()()
	}
	return f.FS.Stat(name)
}

// Root delivers to the mbox of another user, who puts a link in its place for a moment. The
// mail must not follow that link.
func TestLinkForAMoment(t *testing.T) {
	dir, own, create := sharedFolder(t)
	inbox := filepath.Join(dir, "inbox")
	if err := errors.Join(create["a link"](), os.Rename(inbox, inbox+".2"), create["an mbox"]()); err != nil {
		t.Fatal(err)
	}
	// Begin and Prepare examine the mbox. Prepare opens it and compares it with its name.
	put(t, openSink(t, &swapping{durable.OS, inbox, 6}, dir), deliver.Mail{Account: "work"}, "x\r\n")
	if fi, err := os.Stat(own); err != nil || fi.Size() > 0 {
		t.Errorf("the file of this user: %v, %v", fi, err)
	}
	if fi, err := os.Stat(inbox); err != nil || fi.Size() == 0 {
		t.Errorf("the mbox: %v, %v", fi, err)
	}
}
