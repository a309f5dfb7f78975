package config

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Find returns the configuration file to load: explicit if it is not empty, else the
// file that $MAILHAUL_CONFIG names, else the first that exists of
// $XDG_CONFIG_HOME/mailhaul/config.yaml and ~/.config/mailhaul/config.yaml. If none
// does, the error is a *NotFound.
func Find(explicit string) (string, error) {
	if named := cmp.Or(explicit, os.Getenv("MAILHAUL_CONFIG")); named != "" {
		// cron does not expand ~ in a variable, nor does every shell after --config=.
		if rest, ok := strings.CutPrefix(named, "~/"); ok {
			named = cmp.Or(homePath(rest), named)
		}
		return named, nil
	}
	var looked []string
	for _, dir := range []string{xdgDir("XDG_CONFIG_HOME"), homePath(".config")} {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, "mailhaul", "config.yaml")
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		looked = append(looked, path)
	}
	return "", &NotFound{Looked: slices.Compact(looked)}
}

// Place returns the path for a new configuration: explicit if it is not empty, else the
// file that Find finds, else the first path where Find looks. exists reports whether
// there is a file already.
func Place(explicit string) (path string, exists bool, err error) {
	path, err = Find(explicit)
	if missing, ok := errors.AsType[*NotFound](err); ok && len(missing.Looked) > 0 {
		path, err = missing.Looked[0], nil
	}
	if err != nil {
		return "", false, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", false, err
	}
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return path, false, nil
	default:
		return path, err == nil, err
	}
}

// NotFound is the error of Find if there is no configuration file. Looked are the paths
// where one could be.
type NotFound struct{ Looked []string }

// Error names the paths.
func (e *NotFound) Error() string {
	if len(e.Looked) == 0 {
		return "there is no configuration file: neither $XDG_CONFIG_HOME nor $HOME is set"
	}
	return "there is no configuration file: looked for " + strings.Join(e.Looked, ", ")
}

// defaultState returns $XDG_STATE_HOME/mailhaul or ~/.local/state/mailhaul.
func (p *parser) defaultState() string {
	dir := cmp.Or(xdgDir("XDG_STATE_HOME"), homePath(".local/state"))
	if dir == "" {
		p.fail(value{}, "state: /var/lib/mailhaul", "there is no home folder to keep the state in")
		return ""
	}
	return filepath.Join(dir, "mailhaul")
}

// xdgDir returns the folder that a variable of the XDG Base Directory Specification
// names, "" if it is not set. The specification says to ignore relative paths.
func xdgDir(name string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return ""
}

// homePath returns a path in the user's home folder, "" if there is none.
func homePath(path string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, path)
}
