package fetch

import "sync/atomic"

// Meter counts what has come in of the messages of one poll, those that had to
// be fetched again included. It may be read at any time, by anyone.
type Meter struct{ octets, messages atomic.Int64 }

// Octets returns how many octets of messages have come in.
func (m *Meter) Octets() int64 { return m.octets.Load() }

// Messages returns how many messages have come in whole.
func (m *Meter) Messages() int64 { return m.messages.Load() }
