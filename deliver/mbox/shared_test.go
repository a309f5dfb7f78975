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

// sharedFolder returns a folder where everybody may leave files, of which inbox is
// missing; a file of ours; and what leaves there, in the name of inbox, a link of
// another user to that file, a hard link to it, and an mbox of that user's.
func sharedFolder(t *testing.T) (dir, own string, leave map[string]func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	const his = 4712
	base := t.TempDir()
	dir, own = filepath.Join(base, "spool"), filepath.Join(base, "own")
	inbox := filepath.Join(dir, "inbox")
	err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chmod(base, 0o755), os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|os.ModeSticky),
		os.WriteFile(own, nil, 0o600), os.Chown(dir, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return dir, own, map[string]func() error{
		"a link":      func() error { return errors.Join(os.Symlink(own, inbox), os.Lchown(inbox, his, his)) },
		"a hard link": func() error { return os.Link(own, inbox) },
		"an mbox": func() error {
			return errors.Join(os.WriteFile(inbox, nil, 0o600), os.Chmod(inbox, 0o666), os.Chown(inbox, his, his))
		},
	}
}

// openHook calls before, unless it is nil, ahead of the n-th time that a file is
// opened, counted from 0.
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

// What another user puts there while a batch comes in, or between the look at the
// mbox and the moment at which it is opened or created, is found out, too.
func TestLeftMeanwhile(t *testing.T) {
	for _, what := range []string{"a link", "a hard link"} {
		for n, when := range []string{"as it is opened", "as it is created", "before Prepare"} {
			t.Run(what+" "+when, func(t *testing.T) {
				dir, own, leave := sharedFolder(t)
				fsys := &openHook{FS: durable.OS, path: filepath.Join(dir, "inbox"), n: n, before: leave[what]}
				b, err := openSink(t, fsys, dir).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer b.Abort()
				if _, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader("x\r\n")); err != nil {
					t.Fatal(err)
				}
				if when == "before Prepare" {
					if err := leave[what](); err != nil {
						t.Fatal(err)
					}
					fsys.before = nil
				}
				_, err = b.Prepare(t.Context())
				if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Op, "in a folder where everybody may leave files") {
					t.Errorf("Prepare = %v", err)
				}
				if fi, err := os.Stat(own); err != nil || fi.Size() > 0 {
					t.Errorf("our own file: %v, %v", fi, err)
				}
			})
		}
	}
}

// A link of the user's may lead into such a folder.
func TestByALinkOfMine(t *testing.T) {
	for _, what := range []string{"a link", "a hard link", "an mbox"} {
		t.Run(what, func(t *testing.T) {
			dir, own, leave := sharedFolder(t)
			const mine = 4711
			home := filepath.Join(filepath.Dir(dir), "home")
			link := filepath.Join(home, "inbox")
			err := errors.Join(os.Mkdir(home, 0o755), os.Symlink(filepath.Join(dir, "inbox"), link), os.Lchown(link, mine, mine),
				os.Chown(own, mine, mine), os.Chown(home, mine, mine))
			if err != nil {
				t.Fatal(err)
			}
			if said, err := begin(home, mine); err != nil || !strings.HasPrefix(said, "Begin: <nil>\n") {
				t.Errorf("without an mbox: %q, %v", said, err)
			}
			if err := leave[what](); err != nil {
				t.Fatal(err)
			}
			if said, err := begin(home, mine); err != nil || !strings.Contains(said, "in a folder where everybody may leave files") {
				t.Errorf("it said %q, %v", said, err)
			}
		})
	}
}

// A link to an mbox that does not exist yet is followed, too: who else uses the mbox
// locks it by its own name.
func TestLinkToNowhere(t *testing.T) {
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

// flipping shows something else to whoever asks it for a file, so many times.
type flipping struct {
	durable.FS
	path  string
	times int
}

func (f *flipping) flip() func() {
	if f.times--; f.times < 0 {
		return func() {}
	}
	swap := func() {
		for _, names := range [][2]string{{f.path, f.path + ".1"}, {f.path + ".2", f.path}, {f.path + ".1", f.path + ".2"}} {
			if err := os.Rename(names[0], names[1]); err != nil {
				panic(err)
			}
		}
	}
	swap()
	return swap
}

func (f *flipping) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if name == f.path {
		defer f.flip()()
	}
	return f.FS.OpenFile(name, flag, perm)
}

func (f *flipping) Stat(name string) (fs.FileInfo, error) {
	if name == f.path {
		defer f.flip()()
	}
	return f.FS.Stat(name)
}

// Root delivers to the mbox of another user, who may put a link in its place for a
// moment and take it away again.
func TestFlippingLink(t *testing.T) {
	dir, own, leave := sharedFolder(t)
	inbox := filepath.Join(dir, "inbox")
	if err := errors.Join(leave["a link"](), os.Rename(inbox, inbox+".2"), leave["an mbox"]()); err != nil {
		t.Fatal(err)
	}
	// Begin and Prepare look at it, Prepare opens it and compares it with its name.
	put(t, openSink(t, &flipping{durable.OS, inbox, 6}, dir), deliver.Mail{Account: "work"}, "x\r\n")
	if fi, err := os.Stat(own); err != nil || fi.Size() > 0 {
		t.Errorf("our own file: %v, %v", fi, err)
	}
	if fi, err := os.Stat(inbox); err != nil || fi.Size() == 0 {
		t.Errorf("the mbox: %v, %v", fi, err)
	}
}
