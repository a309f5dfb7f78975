package mda_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/mda"
	"github.com/mailhaul/mailhaul/deliver/program/playtest"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

func TestMain(m *testing.M) { playtest.Main(m, play) }

// play runs a role of the test binary.
func play(role string, args []string) int {
	switch role {
	case "keep": // the message, in a file of its own
		if err := keep(args[0]); err != nil {
			fmt.Println(err)
			return 75
		}
	case "do not read":
		return 0
	case "close":
		_ = os.Stdin.Close()
	case "hang if asked to":
		if body, _ := io.ReadAll(os.Stdin); strings.Contains(string(body), "hang") {
			time.Sleep(time.Hour)
		}
	case "announce and hang":
		if _, err := net.Dial("unix", args[0]); err == nil {
			time.Sleep(time.Hour)
		}
	case "tell":
		text := strings.Join(args[1:], "\n") + "\n"
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "MAILHAUL_") {
				text += v + "\n"
			}
		}
		_ = os.WriteFile(args[0], []byte(text), 0o600)
	}
	return 0
}

// keep stores the message from standard input in a file of a directory.
func keep(dir string) error {
	f, err := os.CreateTemp(dir, "*.tmp")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, os.Stdin)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), strings.TrimSuffix(f.Name(), ".tmp")+".msg")
}

// kept returns the messages that the role "keep" has stored.
func kept(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.msg"))
	var messages []string
	for _, name := range names {
		b, rerr := os.ReadFile(name)
		err = errors.Join(err, rerr)
		messages = append(messages, string(b))
	}
	return messages, err
}

// storeDir returns the directory on the disk where the program stores the messages for a
// directory of the suite. Its path is in a file there, since programs cannot see a file
// system in memory.
func storeDir(fsys durable.FS, dir, base string) (string, error) {
	name := filepath.Join(dir, "store")
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err == nil {
		defer f.Close()
		path, err := io.ReadAll(f)
		return string(path), err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	path, err := os.MkdirTemp(base, "store-")
	if err != nil {
		return "", err
	}
	if f, err = fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return "", err
	}
	_, err = io.WriteString(f, path)
	return path, errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(dir))
}

func suite(t *testing.T) delivertest.Suite {
	base := t.TempDir()
	return delivertest.Suite{
		Open: func(fsys durable.FS, dir string) (deliver.Sink, error) {
			path, err := storeDir(fsys, dir, base)
			if err != nil {
				return nil, err
			}
			return mda.New(mda.Options{
				Argv:  playtest.Argv("keep", path, "--uid={uid}", "<{sender}>", "a:{account}", "u:{user}", "{size}"),
				Spool: spool.New(filepath.Join(dir, "spool"), fsys),
			})
		},
		Read: func(fsys durable.FS, dir string) ([]string, error) {
			path, err := storeDir(fsys, dir, base)
			if err != nil {
				return nil, err
			}
			return kept(path)
		},
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	delivertest.Run(t, suite(t))
}
