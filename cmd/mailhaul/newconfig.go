package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// newConfigPath returns the absolute path for a new configuration: explicit, or the usual
// one. It fails if the file exists.
func newConfigPath(explicit string) (string, error) {
	path, exists, err := config.Place(explicit)
	_, noHome := errors.AsType[*config.NotFound](err)
	switch {
	case noHome:
		return "", usagef("set HOME; or name the file with --config, and set XDG_STATE_HOME for the state",
			"there is no home folder to write a configuration to")
	case err != nil:
		return "", configError(err)
	case exists:
		return "", usagef("add accounts to it by hand, or name another file with --config", "there is a configuration already: %s", path)
	}
	return path, nil
}

// configOption returns the option --config for a configuration, with a blank before it,
// or "" for the one that commands find by themselves.
func configOption(path string) string {
	if found, err := config.Find(""); err == nil && filepath.Clean(found) == path {
		return ""
	}
	return " --config " + shellQuoted(path)
}

// pathInConfig returns how a configuration has a path that a person typed, which is
// relative to the working folder.
func pathInConfig(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return path, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	// In the paths of a configuration, $ begins a variable.
	return config.EscapePath(tilde(abs)), nil
}

// writeNew creates a file that only its owner may read. It must not exist.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
