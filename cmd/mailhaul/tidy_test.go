package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxLines is how long a Go file may get before it is split.
const maxLines = 600

// unwanted must not be in any file of the repository. The patterns are written so that
// they do not match themselves.
var unwanted = []struct {
	what    string
	pattern *regexp.Regexp
}{
	{"work left undone", regexp.MustCompile(`\b(TO[D]O|FIX[M]E)\b`)},
	{"a path of one machine", regexp.MustCompile(`(^|[^\w.)}\]])/(work|root)/`)},
	{"a host of a package registry", regexp.MustCompile(`(proxy|sum)\.golang\.|deb\.debian\.`)},
}

// TestTidy checks every file that git has or would take.
func TestTidy(t *testing.T) {
	root := moduleRoot(t)
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Skipf("NOT TESTED: the sources are not in git (%v)", err)
	}
	seen := 0
	for _, name := range strings.Split(strings.Trim(string(out), "\x00"), "\x00") {
		if strings.HasPrefix(name, "testdata/messages/") {
			continue // mail of other people
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted, but not committed yet
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, u := range unwanted {
			if found := u.pattern.Find(text); found != nil {
				t.Errorf("%s: %s: %q", name, u.what, found)
			}
		}
		if lines := bytes.Count(text, []byte("\n")); strings.HasSuffix(name, ".go") && lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it", name, lines, maxLines)
		}
	}
	if seen < 20 {
		t.Errorf("git lists %d files only", seen)
	}
}

// moduleRoot returns the folder of go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}
