package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

var update = flag.Bool("update", false, "rewrite the messages expected of broken configurations")

const configs = "../../../../testdata/configs"

// Every broken configuration has beside it the exact message that a person
// is to see.
func TestBroken(t *testing.T) {
	files, err := filepath.Glob(configs + "/broken/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d configurations, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Setenv("HOME", "/home/me")
			// A checkout may let others read the file; some hold a password.
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			private := filepath.Join(dir, filepath.Base(file))
			if err := os.WriteFile(private, text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = config.Load(private)
			if err == nil {
				t.Fatal("it was accepted")
			}
			got := strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("the message holds the password:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}
