package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mailhaul/mailhaul/"

// mayImport lists which packages of the module a package may import. A package that is not
// listed may import none, and sinkMayImport is the list of each sink. Below cmd every
// package may be imported.
var mayImport = map[string][]string{
	"fetch":                       {"deliver", "deliver/envelope", "deliver/filter", "fetch/state", "pop3proto", "pop3proto/channel", "pop3proto/kpop", "pop3proto/mech"},
	"pop3proto":                   {"pop3proto/mask"},
	"pop3proto/kpop":              {"pop3proto/mech"},
	"pop3proto/mech":              {"pop3proto/mask"},
	"pop3proto/servertest":        {"pop3proto/pop3test"},
	"deliver/spool":               {"deliver", "deliver/durable"},
	"deliver/delivertest":         {"deliver", "deliver/durable", "deliver/durable/durabletest"},
	"deliver/durable/durabletest": {"deliver/durable"},
	"deliver/remote":              {"deliver", "pop3proto/channel", "pop3proto/mask", "pop3proto/mech"},
	"fetch/oauth":                 {"deliver/durable", "pop3proto/mask"},
	"fetch/state":                 {"deliver/durable"},
	"fetch/discover":              {"pop3proto"},
}

// sinkMayImport is the list of every other package below deliver.
var sinkMayImport = []string{"deliver", "deliver/durable", "deliver/envelope", "deliver/spool", "deliver/remote", "deliver/program"}

// testsOfMayImport lists what else the tests of a package may import: the tests of whole
// polls deliver into real sinks.
var testsOfMayImport = map[string][]string{
	"fetch": {"deliver/imap", "deliver/maildir", "deliver/mbox", "deliver/smtp", "deliver/remote", "deliver/spool", "deliver/durable"},
	"fetch/modeltest": {
		"fetch", "fetch/state", "deliver", "deliver/durable", "deliver/maildir", "deliver/mbox", "deliver/spool", "pop3proto",
	},
	"fetch/oauth":    {"pop3proto", "pop3proto/mech", "fetch/oauth/oauthtest"},
	"pop3proto":      {"pop3proto/mech"},
	"pop3proto/kpop": {"pop3proto"},
	"deliver/imap":   {"pop3proto/mech"},
}

// foundations are packages below deliver that are no sinks, and on which deliver may
// build.
var foundations = []string{"deliver/durable", "deliver/envelope"}

// testsMayImport lists what else all tests may import.
var testsMayImport = []string{
	"testdata", "pop3proto/channel", "pop3proto/channel/channeltest", "pop3proto/pop3test", "pop3proto/servertest", "deliver/delivertest", "deliver/durable/durabletest", "deliver/program/playtest", "fetch/oauth/oauthtest", "fetch/discover/discovertest",
}

// onlyUnder says where packages of other modules may be imported. Logging, flags and YAML
// are for cmd only: other packages report, and cmd speaks. "tests" are test files and
// packages that are made for them.
var onlyUnder = map[string]string{
	"github.com/rs/zerolog":             "cmd/mailhaul",
	"github.com/urfave/cli":             "cmd/mailhaul",
	"gopkg.in/yaml.v3":                  "cmd/mailhaul",
	"github.com/prometheus":             "cmd/mailhaul",
	"github.com/coreos/go-systemd":      "cmd/mailhaul",
	"github.com/vbauerster":             "cmd/mailhaul",
	"github.com/mattn/go-runewidth":     "cmd/mailhaul",
	"modernc.org/sqlite":                "fetch/state",
	"github.com/rogpeppe/go-internal":   "tests",
	"github.com/google/go-cmp":          "tests",
	"github.com/creack/pty":             "tests",
	"github.com/charmbracelet":          "tests",
	"github.com/mailhaul/mailhaul/cmd/": "cmd/mailhaul",
}

// goPackage is what `go list -json` prints of a package.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// No package imports another one that mayImport and onlyUnder do not allow.
func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(string(exit.Stderr))
		}
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; seen++ {
		var pkg goPackage
		if err := dec.Decode(&pkg); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(pkg.ImportPath, module)
		for _, to := range pkg.Imports {
			if !allowed(from, to, false) {
				t.Errorf("%s must not import %s", from, to)
			}
		}
		for _, to := range slices.Concat(pkg.TestImports, pkg.XTestImports) {
			if !allowed(from, to, true) {
				t.Errorf("the tests of %s must not import %s", from, to)
			}
		}
	}
	if seen < 8 {
		t.Errorf("go list knows %d packages only", seen)
	}
}

// TestImportRule checks that allowed refuses what it must.
func TestImportRule(t *testing.T) {
	for _, c := range []struct {
		from, to  string
		test, may bool
	}{
		{"fetch", module + "fetch/state", false, true},
		{"fetch", module + "deliver/maildir", false, false},
		{"fetch", module + "deliver/maildir", true, true},
		{"fetch/state", module + "deliver/maildir", true, false},
		{"fetch", "github.com/rs/zerolog", false, false},
		{"fetch", "github.com/google/go-cmp/cmp", true, true},
		{"fetch", "github.com/google/go-cmp/cmp", false, false},
		{"fetch/state", module + "deliver", false, false},
		{"fetch/state", "modernc.org/sqlite", false, true},
		{"pop3proto", module + "deliver", true, false},
		{"pop3proto", module + "pop3proto/pop3test", false, false},
		{"pop3proto", module + "pop3proto/pop3test", true, true},
		{"deliver", module + "deliver/durable", false, false},
		{"deliver/durable", module + "deliver", false, false},
		{"deliver/mbox", module + "deliver/spool", false, true},
		{"deliver/mbox", module + "deliver/maildir", false, false},
		{"deliver/mbox", module + "pop3proto", false, false},
		{"cmd/mailhaul", module + "pop3proto/pop3test", false, true},
		{"cmd/mailhaul", "github.com/urfave/cli/v2", false, true},
		{"deliver/mbox", module + "cmd/mailhaul/internal/config", true, false},
	} {
		if may := allowed(c.from, c.to, c.test); may != c.may {
			t.Errorf("allowed(%q, %q, test %v) = %v", c.from, c.to, c.test, may)
		}
	}
}

// allowed reports whether the package from, or its tests, may import to.
func allowed(from, to string, test bool) bool {
	for prefix, place := range onlyUnder {
		inTests := place == "tests" && (test || strings.HasSuffix(from, "test"))
		if strings.HasPrefix(to, prefix) && !under(from, place) && !inTests {
			return false
		}
	}
	own, ok := strings.CutPrefix(to, module)
	switch {
	case !ok, under(from, "cmd/mailhaul"):
		return true
	case test && (own == from || slices.Contains(testsMayImport, own) || slices.Contains(testsOfMayImport[from], own)):
		return true
	}
	list, ok := mayImport[from]
	if !ok && path.Dir(from) == "deliver" && !slices.Contains(foundations, from) {
		list = sinkMayImport
	}
	return slices.Contains(list, own)
}

// under reports whether pkg is root or below it.
func under(pkg, root string) bool {
	return pkg == root || strings.HasPrefix(pkg, root+"/")
}
