package pop3test

import (
	"context"
	"time"
)

// Wait returns when no session holds the maildrop, or with ctx's error. A
// session whose client was killed lets go as soon as the server notices.
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

// acquire takes the exclusive lock of RFC 1939 §4 for s and waits for it as
// Behaviour.LockWait has it. It returns what is in the maildrop.
func (m *Maildrop) acquire(s *session, d time.Duration) ([]message, bool) {
	if d == 0 {
		d = time.Minute
	}
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		m.srv.mu.Lock()
		if m.holder == nil {
			defer m.srv.mu.Unlock()
			m.holder, m.released = s, make(chan struct{})
			return m.messages, true
		}
		released := m.released
		m.srv.mu.Unlock()
		if d < 0 {
			return nil, false
		}
		select {
		case <-released:
		case <-limit.C:
			return nil, false
		case <-m.srv.done:
			return nil, false
		}
	}
}

// release gives the lock of the calling session back and makes its deletions
// real.
func (m *Maildrop) release(deleted []message) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	if len(deleted) > 0 {
		gone := make(map[int]bool, len(deleted))
		for _, msg := range deleted {
			gone[msg.seq] = true
		}
		// What is no longer there was not deleted by this session.
		m.messages = without(m.messages, func(msg message) bool {
			if gone[msg.seq] {
				m.removed = append(m.removed, msg)
			}
			return gone[msg.seq]
		})
	}
	m.holder = nil
	close(m.released)
}
