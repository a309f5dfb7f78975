package spool

import (
	"errors"
	"io"
	"os"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// OpenStdin opens a file read-only, as the standard input of a program. If the spool is
// not on the file system of the operating system, as in tests, the program gets a copy.
func (d *Dir) OpenStdin(name string) (*os.File, error) {
	var f *os.File
	var err error
	if d.fs == durable.OS {
		f, err = os.Open(d.Path(name))
	} else {
		f, err = d.copyOut(name)
	}
	if err != nil {
		return nil, d.Error("open a message", err)
	}
	return f, nil
}

// copyOut returns a copy of a file. The copy has no name and disappears when it is closed.
func (d *Dir) copyOut(name string) (_ *os.File, err error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
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
