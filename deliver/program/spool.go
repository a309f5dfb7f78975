package program

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/mailhaul/mailhaul/deliver/spool"
)

// Save copies a message to a file. It keeps the two ways to fail apart: an
// error of body, or of ctx, and one of file.
func Save(ctx context.Context, file io.Writer, body io.Reader) (size int64, bodyErr, fileErr error) {
	buf := make([]byte, 32<<10)
	for {
		n, rerr := body.Read(buf)
		if n > 0 {
			m, err := file.Write(buf[:n])
			if size += int64(m); err != nil {
				return size, nil, err
			}
		}
		if rerr == io.EOF {
			return size, nil, nil
		}
		if rerr != nil {
			return size, rerr, nil
		}
		if err := ctx.Err(); err != nil {
			return size, err, nil
		}
	}
}

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
