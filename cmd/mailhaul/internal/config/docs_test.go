package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// People copy the examples in the documents, so each of them must load. The parts that an
// example leaves out are added.
func TestDocs(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
	const (
		root     = "../../../../"
		sinks    = "sinks: { home: { maildir: /m } }\n"
		accounts = "accounts:\n  work:\n    server: pop.example.com\n    user: me\n"
		login    = "    password_env: X\n"
	)
	files, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, file := range append(files, root+"README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(text, -1) {
			block := string(found[1])
			if strings.HasPrefix(block, "- alert:") {
				continue // for Prometheus
			}
			if strings.HasPrefix(block, "    ") { // keys of an account
				block = accounts + block
			} else if !strings.Contains("\n"+block, "\naccounts:") {
				block += accounts + login
			}
			if !strings.Contains("\n"+block, "\nsinks:") {
				block += sinks
			}
			if _, err := config.Load(write(t, block, 0o600)); err != nil {
				t.Errorf("%s: %v\n%s", file, err, block)
			}
			loaded++
		}
	}
	if loaded < 7 {
		t.Errorf("only %d configurations were found", loaded)
	}
}
