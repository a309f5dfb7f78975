package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// TestProbeOfOthers tells root of a Maildir whose owner could not read the mail.
func TestProbeOfOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can deliver to somebody else's Maildir")
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
