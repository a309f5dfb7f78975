package durabletest_test

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver/durable"
	. "github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// write creates a file; it does not sync it.
func write(t *testing.T, f *FS, name, content string) durable.File {
	t.Helper()
	h, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = io.WriteString(h, content)
	must(t, err)
	return h
}

// synced makes a file and its name durable.
func synced(t *testing.T, f *FS, name, content string) {
	t.Helper()
	h := write(t, f, name, content)
	must(t, h.Sync(), h.Close(), f.SyncDir(name[:strings.LastIndex(name, "/")+1]))
}

// cuts lists the trees after a power cut, each once, permissions left out.
func cuts(f *FS) []string {
	var list []string
	for g := range f.PowerCuts() {
		list = append(list, strings.NewReplacer(" -rw-------", "", " drwx------", "", "\n", ";").Replace(g.Tree()))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestPowerCuts(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*testing.T, *FS)
		want []string
	}{
		{"all synced", func(t *testing.T, f *FS) { synced(t, f, "/a", "x") }, []string{`/a "x";`}},
		{"name not synced", func(t *testing.T, f *FS) { must(t, write(t, f, "/a", "x").Sync()) },
			[]string{``, `/a "x";`}},
		{"content not synced", func(t *testing.T, f *FS) { write(t, f, "/a", "xyzw"); must(t, f.SyncDir("/")) },
			[]string{`/a "";`, `/a "\x00\x00\x00\x00";`, `/a "xy";`, `/a "xy\x00\x00";`, `/a "xyzw";`}},
		{"append not synced", func(t *testing.T, f *FS) {
			synced(t, f, "/a", "old")
			h, err := f.OpenFile("/a", os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = io.WriteString(h, "ne")
			must(t, err)
		}, []string{`/a "old";`, `/a "old\x00\x00";`, `/a "oldn";`, `/a "oldn\x00";`, `/a "oldne";`}},
		{"truncate not synced", func(t *testing.T, f *FS) {
			synced(t, f, "/a", "old")
			must(t, write(t, f, "/a", "").Truncate(1))
		}, []string{`/a "o";`, `/a "old";`}},
		{"rename within a directory", func(t *testing.T, f *FS) {
			synced(t, f, "/a", "x")
			must(t, f.Rename("/a", "/b"))
		}, []string{`/a "x";`, `/b "x";`}},
		{"rename over a file", func(t *testing.T, f *FS) {
			synced(t, f, "/a", "x")
			synced(t, f, "/b", "y")
			must(t, f.Rename("/a", "/b"))
		}, []string{`/a "x";/b "y";`, `/b "x";`}},
		{"rename across", func(t *testing.T, f *FS) {
			must(t, f.Mkdir("/d", 0o700))
			synced(t, f, "/a", "x")
			must(t, f.Rename("/a", "/d/a"))
		}, []string{`/a "x";/d/;`, `/a "x";/d/;/d/a "x";`, `/d/;/d/a "x";`}},
		{"rename across, old directory synced", func(t *testing.T, f *FS) {
			must(t, f.Mkdir("/d", 0o700))
			synced(t, f, "/a", "x")
			must(t, f.Rename("/a", "/d/a"), f.SyncDir("/"))
		}, []string{`/a "x";/d/;`, `/a "x";/d/;/d/a "x";`, `/d/;/d/a "x";`}},
		{"rename across, new directory synced", func(t *testing.T, f *FS) {
			must(t, f.Mkdir("/d", 0o700))
			synced(t, f, "/a", "x")
			must(t, f.Rename("/a", "/d/a"), f.SyncDir("/d"))
		}, []string{`/a "x";/d/;/d/a "x";`, `/d/;/d/a "x";`}},
		{"rename across, both synced", func(t *testing.T, f *FS) {
			must(t, f.Mkdir("/d", 0o700))
			synced(t, f, "/a", "x")
			must(t, f.Rename("/a", "/d/a"), f.SyncDir("/d"), f.SyncDir("/"))
		}, []string{`/d/;/d/a "x";`}},
		{"remove", func(t *testing.T, f *FS) {
			synced(t, f, "/a", "x")
			must(t, f.Remove("/a"))
		}, []string{``, `/a "x";`}},
		{"failed sync", func(t *testing.T, f *FS) {
			h := write(t, f, "/a", "x")
			must(t, f.SyncDir("/"))
			f.FailAt(f.Ops()+1, syscall.EIO)
			if err := h.Sync(); !errors.Is(err, syscall.EIO) {
				t.Errorf("sync: %v", err)
			}
			must(t, h.Sync())
		}, []string{`/a "";`, `/a "\x00";`, `/a "x";`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := New()
			test.do(t, f)
			if diff := cmp.Diff(test.want, cuts(f)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTwoNames(t *testing.T) {
	f := New()
	must(t, f.Mkdir("/d", 0o700), f.SyncDir("/"))
	synced(t, f, "/a", "x")
	must(t, f.Rename("/a", "/d/b"))
	var both int
	for g := range f.PowerCuts() {
		if g.TwoNames() != (strings.Count(g.Tree(), `"x"`) == 2) {
			t.Errorf("TwoNames = %v in\n%s", g.TwoNames(), g.Tree())
		}
		if !g.TwoNames() {
			continue
		}
		both++
		before := g.Tree()
		must(t, g.Rename("/a", "/d/b")) // rename(2): two names of one file are left alone
		if diff := cmp.Diff(before, g.Tree()); diff != "" {
			t.Error(diff)
		}
	}
	if both != 1 {
		t.Errorf("%d states with two names, want 1", both)
	}
}

// Of too many combinations a sample is looked at, with both extremes in it.
func TestPowerCutsSample(t *testing.T) {
	f := New()
	for _, name := range "abcdefghijklmnopqrstuvwxyz" {
		write(t, f, "/"+string(name), "xyz")
	}
	whole := f.Tree()
	var trees []string
	for g := range f.PowerCuts() {
		trees = append(trees, g.Tree())
	}
	if len(trees) < 1000 || len(trees) > 4096 {
		t.Errorf("%d states", len(trees))
	}
	if trees[0] != "" || trees[len(trees)-1] != whole {
		t.Errorf("first %q, last %q", trees[0], trees[len(trees)-1])
	}
}

func TestCrashAt(t *testing.T) {
	f := New()
	h := write(t, f, "/a", "x") // 1 create, 2 write
	must(t, h.TryLock())        // 3
	f.CrashAt(5)
	must(t, f.Rename("/a", "/b")) // 4
	_, err := h.Write([]byte("y"))
	for _, err := range []error{err, h.Sync(), h.Close(), f.SyncDir("/"), f.Mkdir("/d", 0o700), f.Mark("m")} {
		if !errors.Is(err, ErrCrashed) {
			t.Errorf("after the crash: %v", err)
		}
	}
	g := f.Kill()
	if diff := cmp.Diff("/b -rw------- \"x\"\n", g.Tree()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"added /a", "added /b", "content of /b", "removed /a"}, g.Unsynced()); diff != "" {
		t.Error(diff)
	}
	h = write(t, g, "/b", "")
	must(t, h.TryLock(), h.Sync()) // the lock died with its process, and its sync never failed
	if diff := cmp.Diff([]string{"added /a", "added /b", "removed /a"}, g.Unsynced()); diff != "" {
		t.Error(diff)
	}
}

func TestFork(t *testing.T) {
	f := New()
	h := write(t, f, "/a", "x")
	must(t, h.TryLock())
	g := f.Fork()
	must(t, h.Sync(), f.Rename("/a", "/b"), f.SyncDir("/")) // the process goes on
	must(t, write(t, g, "/a", "").TryLock())
	if diff := cmp.Diff("/a -rw------- \"x\"\n", g.Tree()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"added /a", "content of /a"}, g.Unsynced()); diff != "" {
		t.Error(diff)
	}
}

func TestFailures(t *testing.T) {
	f := New()
	h := write(t, f, "/a", "")
	must(t, h.TryLock())
	if err := write(t, f, "/a", "").TryLock(); err != durable.ErrLocked {
		t.Errorf("second lock: %v", err)
	}
	f.FailAt(f.Ops()+1, syscall.ENOSPC)
	if n, err := h.Write([]byte("1234")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write = %d, %v", n, err)
	}
	f.FailAt(f.Ops()+1, ErrSkip)
	must(t, f.Rename("/a", "/b"))
	if diff := cmp.Diff("/a -rw------- \"12\"\n", f.Tree()); diff != "" {
		t.Error(diff)
	}
	if got := f.OpenFiles(); len(got) != 2 {
		t.Errorf("open: %q", got)
	}
	_, err := f.Stat("/none/a")
	_, err2 := f.Stat("/a/b")
	_, err3 := f.OpenFile("/a", os.O_CREATE|os.O_EXCL, 0o600)
	for i, want := range []error{syscall.ENOENT, syscall.ENOTDIR, syscall.EEXIST, syscall.ENOENT} {
		if got := []error{err, err2, err3, f.Rename("/x", "/y")}[i]; !errors.Is(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
