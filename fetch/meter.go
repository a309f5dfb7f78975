package fetch

import "sync/atomic"

// Meter counts the messages and octets that one poll has received. A message that is
// retrieved twice counts twice. Any goroutine may read it at any time.
type Meter struct{ octets, messages atomic.Int64 }

// Octets returns how many octets of messages have been received.
func (m *Meter) Octets() int64 { return m.octets.Load() }

// Messages returns how many messages have been received to their end.
func (m *Meter) Messages() int64 { return m.messages.Load() }
