package durable

import (
	"os"
	"testing"
)

// OnSync has hook called before each sync of a file, until the test ends.
func OnSync(t *testing.T, hook func(name string)) {
	sync := fsync
	fsync = func(f *os.File) error {
		hook(f.Name())
		return sync(f)
	}
	t.Cleanup(func() { fsync = sync })
}

// AtOnce is how many syncs go on at once.
const AtOnce = atOnce

// Waiting is how many wait for their turn.
func Waiting() int {
	queue.Lock()
	defer queue.Unlock()
	return queue.Len()
}
