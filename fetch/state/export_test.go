package state

import (
	"fmt"
	"os"
	"sync/atomic"

	"modernc.org/sqlite"
)

// Newest is the version of the schema.
var Newest = len(migrations)

// Upgrade leads from the version before to that one.
func Upgrade(version int) string {
	return fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; %s", appID, version, migrations[version-1])
}

// Pragma returns a setting of the connection that writes.
func (s *Store) Pragma(name string) (value string, err error) {
	err = s.write.tx.queryValue(&value, "PRAGMA "+name)
	return value, err
}

// CountCommits counts the transactions that are committed from now on.
func (s *Store) CountCommits() *atomic.Int32 {
	var n atomic.Int32
	s.OnCommit(func() { n.Add(1) })
	return &n
}

// OnCommit has f called before each transaction is committed.
func (s *Store) OnCommit(f func()) {
	s.write.tx.conn.Raw(func(conn any) error {
		conn.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 {
			f()
			return 0
		})
		return nil
	})
}

// Queued is how many changes wait for the writer.
func (s *Store) Queued() int {
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	return len(s.write.queue)
}

// File is the file by which the lease is held.
func (l *Lease) File() *os.File { return l.f }
