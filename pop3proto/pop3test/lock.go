package pop3test

import (
	"context"
	"time"
)

// Wait waits until no session holds the maildrop's lock, or returns ctx's error. The
// session of a client that was killed holds the lock until the server notices.
func (m *Maildrop) Wait(ctx context.Context) error {
	for {
		m.srv.mu.Lock()
		held, released := m.holder != nil, m.released
		m.srv.mu.Unlock()
		if !held {
			return nil
		}
		select {
		case <-released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acquire takes the exclusive lock of RFC 1939 §4 for s and returns the messages, or false
// if it does not get the lock within wait, which is a Behaviour.LockWait.
func (m *Maildrop) acquire(s *session, wait time.Duration) ([]message, bool) {
	if wait == 0 {
		wait = time.Minute
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		m.srv.mu.Lock()
		if m.holder == nil {
			defer m.srv.mu.Unlock()
			m.holder, m.released = s, make(chan struct{})
			return m.messages, true
		}
		released := m.released
		m.srv.mu.Unlock()
		if wait < 0 {
			return nil, false
		}
		select {
		case <-released:
		case <-timer.C:
			return nil, false
		case <-m.srv.done:
			return nil, false
		}
	}
}

// release removes the deleted messages and releases the lock, which the calling session
// holds.
func (m *Maildrop) release(deleted []message) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	if len(deleted) > 0 {
		gone := make(map[int]bool, len(deleted))
		for _, msg := range deleted {
			gone[msg.seq] = true
		}
		// A message that Remove took away meanwhile was not deleted by this session.
		m.messages = remove(m.messages, func(msg message) bool {
			if gone[msg.seq] {
				m.removed = append(m.removed, msg)
			}
			return gone[msg.seq]
		})
	}
	m.holder = nil
	close(m.released)
}
