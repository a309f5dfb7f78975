package state

import (
	"fmt"
	"sync/atomic"

	"modernc.org/sqlite"
)

// FirstSchema makes an empty database of the first version.
var FirstSchema = fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 1; %s", appID, migrations[0])

// Pragma returns a setting of the connection that writes.
func (s *Store) Pragma(name string) (value string, err error) {
	err = s.write.tx.get(&value, "PRAGMA "+name)
	return value, err
}

// CountCommits counts the transactions that are committed from now on.
func (s *Store) CountCommits() *atomic.Int32 {
	var n atomic.Int32
	s.write.tx.conn.Raw(func(conn any) error {
		conn.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 {
			n.Add(1)
			return 0
		})
		return nil
	})
	return &n
}

// Queued is how many changes wait for the writer.
func (s *Store) Queued() int {
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	return len(s.write.queue)
}
