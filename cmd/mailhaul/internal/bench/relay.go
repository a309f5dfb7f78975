package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// latencyRelay is a relay in front of the server that adds latency, as a network would:
// each byte takes half a round trip in either direction. It does not limit throughput,
// and needs no support by the kernel.
//
// A new connection costs a round trip, too. A client is connected at once, but what it
// sends and the greeting arrive when they would if SYN, SYN-ACK and ACK had taken half a
// round trip each.
type latencyRelay struct {
	addr     string // to connect to
	server   string
	rtt      atomic.Int64 // the round trip of new connections, in nanoseconds
	listener net.Listener

	connections, turns, octets atomic.Int64 // see traffic
}

// startRelay starts a relay to a server. It accepts no more connections when ctx is done.
func startRelay(ctx context.Context, server string) (*latencyRelay, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	r := &latencyRelay{addr: l.Addr().String(), server: server, listener: l}
	go r.acceptLoop()
	return r, nil
}

// traffic counts what has gone through a relay.
type traffic struct {
	Connections int64 `json:"connections"`
	Turns       int64 `json:"turns"`  // how often a client sent something after it had received something
	Octets      int64 `json:"octets"` // in both directions
}

func (r *latencyRelay) traffic() traffic {
	return traffic{r.connections.Load(), r.turns.Load(), r.octets.Load()}
}

func (t traffic) minus(u traffic) traffic {
	return traffic{t.Connections - u.Connections, t.Turns - u.Turns, t.Octets - u.Octets}
}

func (t traffic) plus(u traffic) traffic {
	return traffic{t.Connections + u.Connections, t.Turns + u.Turns, t.Octets + u.Octets}
}

func (r *latencyRelay) acceptLoop() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.connections.Add(1)
		go r.relay(client, time.Now())
	}
}

// relay relays one connection, which was accepted at the given time.
func (r *latencyRelay) relay(client net.Conn, accepted time.Time) {
	defer client.Close()
	delay := time.Duration(r.rtt.Load()) / 2
	up := newDelayQueue(delay)
	var received atomic.Bool // the client has received something since it last sent something
	received.Store(true)
	go up.readFrom(client, func(n int) {
		r.octets.Add(int64(n))
		if received.Swap(false) {
			r.turns.Add(1)
		}
	})
	// The server sends its greeting when it has the ACK, after three half round trips.
	time.Sleep(time.Until(accepted.Add(3 * delay)))
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		return // which closes the client's connection
	}
	defer server.Close()
	down := newDelayQueue(delay)
	go down.readFrom(server, func(n int) { r.octets.Add(int64(n)) })
	var writers sync.WaitGroup
	writers.Go(func() { up.writeTo(server, func() {}) })
	writers.Go(func() { down.writeTo(client, func() { received.Store(true) }) })
	writers.Wait()
}

// delayQueue is one direction of a connection: the data that is on its way.
type delayQueue struct {
	delay   time.Duration
	mu      sync.Mutex
	changed sync.Cond
	chunks  []delayedChunk
	octets  int  // in chunks
	ended   bool // no more data comes, or nobody writes it
}

// delayedChunk is data with the time when it arrives.
type delayedChunk struct {
	due  time.Time
	data []byte
}

// maxInFlight is how many bytes a delayQueue holds before it stops reading. Connections
// without a slow reader have less in flight: 16 MiB in 25 ms are 5.4 Gbit/s.
const maxInFlight = 16 << 20

func newDelayQueue(delay time.Duration) *delayQueue {
	q := &delayQueue{delay: delay}
	q.changed.L = &q.mu
	return q
}

// readFrom puts what it reads from conn into the queue, until conn ends or writeTo does.
// It calls onRead with the size of each chunk.
func (q *delayQueue) readFrom(conn net.Conn, onRead func(int)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			onRead(n)
		}
		q.mu.Lock()
		for q.octets > maxInFlight && !q.ended {
			q.changed.Wait()
		}
		if n > 0 {
			q.chunks = append(q.chunks, delayedChunk{time.Now().Add(q.delay), append([]byte(nil), buf[:n]...)})
			q.octets += n
		}
		q.ended = q.ended || err != nil
		ended := q.ended
		q.changed.Broadcast()
		q.mu.Unlock()
		if ended {
			return
		}
	}
}

// writeTo writes each chunk to conn when it is due, until the queue has ended or conn
// fails. Then it closes conn for writing. It calls beforeWrite before each chunk.
func (q *delayQueue) writeTo(conn net.Conn, beforeWrite func()) {
	for {
		c, ok := q.next()
		if !ok {
			break
		}
		time.Sleep(time.Until(c.due))
		beforeWrite()
		if _, err := conn.Write(c.data); err != nil {
			break
		}
	}
	q.mu.Lock()
	q.ended = true
	q.changed.Broadcast()
	q.mu.Unlock()
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			tcp.Close()
		}
	}
}

// next takes the next chunk from the queue, and waits until there is one. It returns
// false if the queue has ended.
func (q *delayQueue) next() (delayedChunk, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.chunks) == 0 && !q.ended {
		q.changed.Wait()
	}
	if len(q.chunks) == 0 {
		return delayedChunk{}, false
	}
	c := q.chunks[0]
	q.chunks = q.chunks[1:]
	q.octets -= len(c.data)
	q.changed.Broadcast()
	return c, true
}
