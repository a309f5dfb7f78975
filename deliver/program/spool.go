package program

import (
	"errors"
	"io"
	"os"

	"github.com/mailhaul/mailhaul/deliver/spool"
)

// Stdin opens a file of the spool for a program to read, from its beginning
// and without a way to write to it. A spool that is not on the operating
// system's file system, which a program cannot see, is copied out of.
func Stdin(dir *spool.Dir, name string) (_ *os.File, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, ok := f.(interface{ Fd() uintptr }); ok {
		return os.Open(f.Name())
	}
	c, err := os.CreateTemp("", "mailhaul-")
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(c, f)
	if err == nil {
		_, err = c.Seek(0, io.SeekStart)
	}
	if err = errors.Join(err, os.Remove(c.Name())); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
