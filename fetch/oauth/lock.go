package oauth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock locks the grant of a client, and waits while another process or goroutine
// holds the lock. It ends with unlock, or with the process. The file stays, since
// another process may have it open and be about to lock it.
func (s *Store) lock(ctx context.Context, c *Client) (unlock func(), err error) {
	f, err := os.OpenFile(s.path(c, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
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
		case <-retry.C:
		}
	}
}
