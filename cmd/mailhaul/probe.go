package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/imap"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// probeState checks whether a fetch could create or open the state database in the
// folder dir. It creates nothing.
func probeState(dir string) error {
	err := state.CheckFolder(dir)
	for errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(dir)
		_, err = os.Lstat(dir)
	}
	if err == nil {
		err = checkAccess(dir, unix.W_OK|unix.X_OK)
	}
	return err
}

// sinkProbe calls probeSink for one sink and remembers the result: many accounts may
// share the sink, and its server may be slow.
type sinkProbe func() (string, error)

// sinkProbes returns a probe for each sink of a configuration, by name.
func sinkProbes(ctx context.Context, cfg *config.Config, w *wiring) map[string]sinkProbe {
	all := map[string]sinkProbe{}
	for i := range cfg.Sinks {
		s := &cfg.Sinks[i]
		all[s.Name] = sync.OnceValues(func() (string, error) { return probeSink(ctx, s, w.sinks[s.Name]) })
	}
	return all
}

// probeSink checks whether a sink could take mail, and describes the sink. It creates
// nothing.
func probeSink(ctx context.Context, s *config.Sink, sink deliver.Sink) (string, error) {
	profile := sink.Profile()
	text := profile.Kind + " " + tilde(profile.Target)
	var err error
	switch {
	case s.Maildir != nil:
		return probeMaildir(s.Maildir)
	case s.Mbox != nil:
		if text, err = probePath("mbox", s.Mbox.Path, fs.FileMode.IsRegular, "is not a file"); err != nil {
			return "", err
		}
		defer preserveAtime(s.Mbox.Path)()
	case s.Discard:
		return "discard: all mail is deleted, and kept nowhere", nil
	case s.IMAP != nil:
		exists, err := sink.(*imap.Sink).Check(ctx)
		text = profile.Target // a URL, which begins with the kind
		if !exists {
			text += " (will be made)"
		}
		return text, err
	}
	// The other kinds create nothing before a message is staged.
	batch, err := sink.Begin(ctx)
	if err != nil {
		return "", err
	}
	return text, batch.Abort()
}

// preserveAtime returns a function that restores the time at which a file was last read.
// From that time, shells and mail readers tell whether an mbox has new mail.
func preserveAtime(path string) (restore func()) {
	var before unix.Stat_t
	err := unix.Stat(path, &before)
	return func() {
		if err == nil {
			_ = os.Chtimes(path, time.Unix(before.Atim.Unix()), time.Time{}) // only the owner may
		}
	}
}

func probeMaildir(s *config.Maildir) (string, error) {
	path := s.Path
	resolved := durable.RealPath(path)
	if strange, _ := durable.Untrusted(resolved, "a folder", nil); strange != "" {
		return "", &deliver.Error{Fault: deliver.FaultOperator, Target: tilde(path), Op: strange, Hint: durable.HintUntrusted(resolved)}
	}
	text, err := probePath("Maildir", path, fs.FileMode.IsDir, "is not a folder")
	if err != nil {
		return "", err
	}
	if s.Folder != "" {
		path = filepath.Join(path, s.Folder)
		text += ", folder " + s.Folder
	}
	text += unreadableMaildirNote(s)
	// A delivery creates what is missing of a Maildir, but only in an empty folder or in
	// one that has some of it.
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return text, nil
	case err != nil:
		return text, err
	case !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains([]string{"cur", "new", "tmp"}, e.Name())
	}):
		return text, fmt.Errorf("%s is not a Maildir: it has other files, and no cur/, new/ and tmp/", tilde(path))
	}
	// Deliveries do not touch cur/.
	for _, sub := range []string{"tmp", "new"} {
		if err := checkAccess(filepath.Join(path, sub), unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
			return text, err
		}
	}
	return text, nil
}

// unreadableMaildirNote returns a note on a Maildir whose owner cannot read what mailhaul
// delivers there as root, or "".
func unreadableMaildirNote(s *config.Maildir) string {
	info, err := os.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(s.Path))
	}
	if err != nil || os.Geteuid() != 0 || s.Mode&0o077 != 0 {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return ""
	}
	name := fmt.Sprint(stat.Uid)
	if owner, err := user.LookupId(name); err == nil {
		name = owner.Username
	}
	return fmt.Sprintf(", but its owner, %s, cannot read what root delivers there", name)
}

// checkAccess checks whether a file or folder grants access of a mode (unix.R_OK, …). One
// that does not exist passes.
func checkAccess(path string, mode uint32) error {
	err := unix.Access(path, mode)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	e := &deliver.Error{Fault: deliver.FaultOf(err), Target: tilde(path), Op: "cannot be written to", Err: err}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = "make it writable for the user who runs mailhaul"
	}
	return e
}

// probePath checks the file or folder of a sink or, if it does not exist, the folder in
// which it would be created. mismatch is the error if its mode is not as wanted.
func probePath(kind, path string, want func(fs.FileMode) bool, mismatch string) (string, error) {
	info, err := os.Stat(path)
	text := kind + " " + tilde(path)
	if errors.Is(err, fs.ErrNotExist) {
		text += " (will be made)"
		path = filepath.Dir(path)
		info, err = os.Stat(path)
		want, mismatch = fs.FileMode.IsDir, "is not a folder"
		if errors.Is(err, fs.ErrNotExist) {
			return "", &deliver.Error{
				Fault: deliver.FaultOperator, Target: tilde(path), Op: "no such file or directory",
				Hint: "create " + tilde(path) + " first, or correct the path",
			}
		}
	}
	switch {
	case err != nil:
		return "", err
	case !want(info.Mode()):
		return "", fmt.Errorf("%s %s", tilde(path), mismatch)
	}
	return text, checkAccess(path, unix.W_OK)
}
