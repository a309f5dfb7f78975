package takeover_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
	"github.com/mailhaul/mailhaul/deliver/program"
)

var update = flag.Bool("update", false, "write the golden files anew")

// checkGolden compares a text with a golden file, or writes the file with -update.
func checkGolden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// checkYAML compares the file that c becomes, its remarks, and where the other fetcher
// remembers, with a golden file, and checks that mailhaul accepts the file.
func checkYAML(t *testing.T, name string, c *takeover.Config) {
	t.Helper()
	text := c.YAML(strings.TrimSuffix(name, ".txt"))
	if _, err := config.Parse("/home/me/config.yaml", []byte(text)); err != nil {
		t.Errorf("the file is refused: %v", err)
	}
	var b strings.Builder
	b.WriteString(text + "\n")
	for _, group := range c.GroupedRemarks() {
		b.WriteString(group.String() + "\n")
	}
	for _, a := range c.Accounts {
		if a.SeenFile != "" {
			b.WriteString(a.Name + " is remembered in " + a.SeenFile + "\n")
		}
	}
	checkGolden(t, filepath.Join("testdata", name), b.String())
}

// checkConfig compares c and its remarks with a golden file, and checks that mailhaul
// accepts c.
func checkConfig(t *testing.T, golden string, c *takeover.Config) {
	t.Helper()
	var b strings.Builder
	section := func(kind, name string, keys []takeover.Key) {
		fmt.Fprintf(&b, "%s %s\n", kind, name)
		for _, k := range keys {
			value, err := json.Marshal(mapping([]takeover.Key{k})[k.Name])
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "  %s %s\n", k.Name, value)
		}
	}
	if len(c.Defaults) > 0 {
		section("defaults", "of accounts", c.Defaults)
	}
	for _, s := range c.Sinks {
		section("sink", s.Name, s.Keys)
	}
	for _, a := range c.Accounts {
		kind := "account"
		if a.Disabled {
			kind = "off"
		}
		section(kind, a.Name, a.Keys)
		if a.SeenFile != "" {
			fmt.Fprintf(&b, "  (seen %s)\n", a.SeenFile)
		}
	}
	for _, r := range c.Remarks {
		fmt.Fprintf(&b, "%s: %s\n", r.About, r.Text)
	}
	checkGolden(t, golden, b.String())
	checkAccepted(t, c)
}

// testdataFiles returns the paths of the files in testdata that a pattern matches.
func testdataFiles(tb testing.TB, pattern string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		tb.Fatal(paths, err)
	}
	return paths
}

// checkTestdata translates the files in testdata that a pattern matches, and compares each
// result with the golden file beside it.
func checkTestdata(t *testing.T, pattern string, translate func(path string) (*takeover.Config, error)) {
	t.Helper()
	for _, path := range testdataFiles(t, pattern) {
		c, err := translate(path)
		if err != nil {
			t.Error(err)
			continue
		}
		checkConfig(t, strings.TrimSuffix(path, filepath.Ext(path))+".golden", c)
		checkSafe(t, c)
	}
}

// checkRefused checks that each configuration is refused with the error that it maps to,
// below the path of the file.
func checkRefused(t *testing.T, translate func(path string) (*takeover.Config, error), errorOf map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rc")
	for text, want := range errorOf {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := translate(path); err == nil || err.Error() != path+": "+want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// checkAccepted checks that mailhaul accepts the sinks and the enabled accounts of c.
func checkAccepted(t *testing.T, c *takeover.Config) {
	t.Helper()
	t.Setenv("HOME", "/home/me") // for ~
	sinks, accounts := map[string]any{}, map[string]any{}
	for _, s := range c.Sinks {
		sinks[s.Name] = mapping(s.Keys)
	}
	for _, a := range c.Accounts {
		if !a.Disabled {
			accounts[a.Name] = mapping(a.Keys)
		}
	}
	if len(accounts) == 0 {
		return
	}
	// JSON is YAML.
	file, err := json.Marshal(map[string]any{"sinks": sinks, "accounts": accounts})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("/home/me/config.yaml", file); err != nil {
		t.Errorf("the configuration is refused: %v\n%s", err, file)
	}
}

// checkSafe checks that no sink runs what a stranger wrote, that each account says how
// long mail stays on the server and where it goes, and that no name appears twice.
func checkSafe(t *testing.T, c *takeover.Config) {
	t.Helper()
	names := map[string]bool{}
	for _, s := range c.Sinks {
		if argv, ok := mapping(s.Keys)["mda"].([]string); ok {
			if _, err := program.Parse(argv); err != nil {
				t.Errorf("sink %s: %v", s.Name, err)
			}
		}
		if config.NameHint(s.Name) != "" || names[s.Name] {
			t.Errorf("a sink is called %q", s.Name)
		}
		names[s.Name] = true
	}
	for _, a := range c.Accounts {
		keys := mapping(a.Keys)
		if keys["keep"] == nil || keys["deliver"] == nil && keys["route"] == nil && !a.Disabled {
			t.Errorf("account %s has no keep, or nothing to deliver to: %v", a.Name, keys)
		}
		if config.NameHint(a.Name) != "" || names["account "+a.Name] {
			t.Errorf("an account is called %q", a.Name)
		}
		names["account "+a.Name] = true
	}
}

// mapping returns keys as a map, with nested sections as maps, too.
func mapping(keys []takeover.Key) map[string]any {
	m := map[string]any{}
	for _, k := range keys {
		m[k.Name] = k.Value
		if nested, ok := k.Value.([]takeover.Key); ok {
			m[k.Name] = mapping(nested)
		}
	}
	return m
}
