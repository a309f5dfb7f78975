package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// The probe tells root that the owner of a Maildir could not read mail that root delivers
// there.
func TestProbeMaildirOfOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can deliver to somebody else's Maildir")
	}
	home, own := t.TempDir(), t.TempDir()
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		maildir config.Maildir
		told    bool
	}{
		{config.Maildir{Path: home, Mode: 0o600}, true},
		{config.Maildir{Path: filepath.Join(home, "Maildir"), Mode: 0o600}, true},
		{config.Maildir{Path: home, Mode: 0o640}, false},
		{config.Maildir{Path: own, Mode: 0o600}, false},
	} {
		text, err := probeMaildir(&test.maildir)
		if err != nil || strings.Contains(text, "cannot read what root delivers there") != test.told {
			t.Errorf("%s, mode %o: %q, %v", test.maildir.Path, test.maildir.Mode, text, err)
		}
	}
}

// The probe refuses a link that another user has put in the place of a Maildir.
func TestProbeMaildirBehindLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	shared := t.TempDir()
	link, mine := filepath.Join(shared, "Maildir"), filepath.Join(t.TempDir(), "link")
	err := errors.Join(os.Chmod(shared, 0o777|os.ModeSticky), os.Symlink(t.TempDir(), link), os.Lchown(link, 4712, 4712), os.Symlink(link, mine))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, mine} {
		text, err := probeMaildir(&config.Maildir{Path: path, Mode: 0o600})
		e, ok := errors.AsType[*deliver.Error](err)
		if !ok || !strings.Contains(e.Op, "a link of another user, number 4712") || !strings.Contains(e.Hint, link) {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

// A probe leaves the times of an mbox so that the owner's shell still reports new mail: it
// was read before it was last written.
func TestProbeLeavesMailNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	written := time.Now().Add(-time.Hour).Truncate(time.Second)
	err := errors.Join(os.WriteFile(path, []byte("From a@example.org Mon Nov 30 10:00:00 2026\n\n1\n\n"), 0o600),
		os.Chtimes(path, written.Add(-time.Minute), written))
	if err != nil {
		t.Fatal(err)
	}
	sink, err := mbox.New(path, mbox.Options{Spool: spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := probeSink(t.Context(), &config.Sink{Mbox: &config.Mbox{Path: path}}, sink); err != nil {
		t.Fatal(err)
	}
	var times unix.Stat_t
	if err := unix.Stat(path, &times); err != nil {
		t.Fatal(err)
	}
	read, wrote := time.Unix(times.Atim.Unix()), time.Unix(times.Mtim.Unix())
	if !read.Before(wrote) || !wrote.Equal(written) {
		t.Errorf("read at %v, written at %v: it was at %v", read, wrote, written)
	}
}
