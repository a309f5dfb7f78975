package oauth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock waits until no other process, and nobody else in this one, has the
// lock of a client's grant. It is held until unlock, or until the process
// ends. The file stays: another may have it open and be about to lock it.
func (s *Store) lock(ctx context.Context, c *Client) (unlock func(), err error) {
	f, err := os.OpenFile(s.path(c, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		// flock(2), unlike fcntl(2), locks for this descriptor alone.
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(&os.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process has locked %s: %w", f.Name(), ctx.Err()), f.Close())
		case <-again.C:
		}
	}
}
