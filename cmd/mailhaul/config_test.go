package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// configFile writes a configuration to a folder of its own.
func configFile(t *testing.T, format string, args ...any) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
