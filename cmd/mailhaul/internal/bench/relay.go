package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// line is a relay before a server that makes the way to it as long as that to
// a real one. Every octet takes half a round trip in either direction, and any
// number are under way at once: a line has latency, no limit of throughput.
// It asks nothing of the kernel.
//
// A connection costs its round trip too. A client finds itself connected at
// once, but what it sends reaches the server no sooner, and the greeting
// reaches the client no sooner, than if SYN, SYN-ACK and ACK had gone the way.
type latencyRelay struct {
	addr     string
	server   string
	rtt      atomic.Int64 // of connections from now on, in nanoseconds
	listener net.Listener

	// What has gone over the line so far.
	connections, turns, octets atomic.Int64
}

// newLine starts a line to a server, which ends with ctx.
func newRelay(ctx context.Context, to string) (*latencyRelay, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	ln := &latencyRelay{addr: l.Addr().String(), server: to, listener: l}
	go ln.acceptLoop()
	return ln, nil
}

// lineCount is what has gone over a line.
type traffic struct {
	Connections int64 `json:"connections"`
	Turns       int64 `json:"turns"` // how often a client spoke after it had heard something
	Octets      int64 `json:"octets"`
}

func (ln *latencyRelay) count() traffic {
	return traffic{ln.connections.Load(), ln.turns.Load(), ln.octets.Load()}
}

func (a traffic) minus(b traffic) traffic {
	return traffic{a.Connections - b.Connections, a.Turns - b.Turns, a.Octets - b.Octets}
}

func (a traffic) plus(b traffic) traffic {
	return traffic{a.Connections + b.Connections, a.Turns + b.Turns, a.Octets + b.Octets}
}

func (ln *latencyRelay) acceptLoop() {
	for {
		client, err := ln.listener.Accept()
		if err != nil {
			return
		}
		ln.connections.Add(1)
		go ln.relay(client, time.Now())
	}
}

func (ln *latencyRelay) relay(client net.Conn, began time.Time) {
	defer client.Close()
	half := time.Duration(ln.rtt.Load()) / 2
	// SYN, SYN-ACK and ACK are half a round trip each; the server greets when
	// it has the last.
	up := newDelayQueue(half)
	var heard atomic.Bool // the client has heard something since it last spoke
	heard.Store(true)
	go up.fill(client, func(n int) {
		ln.octets.Add(int64(n))
		if heard.Swap(false) {
			ln.turns.Add(1)
		}
	})
	time.Sleep(time.Until(began.Add(3 * half)))
	server, err := net.Dial("tcp", ln.server)
	if err != nil {
		return // the client finds its connection closed
	}
	defer server.Close()
	down := newDelayQueue(half)
	go down.fill(server, func(n int) { ln.octets.Add(int64(n)) })
	var writers sync.WaitGroup
	writers.Go(func() { up.drain(server, func() {}) })
	writers.Go(func() { down.drain(client, func() { heard.Store(true) }) })
	writers.Wait()
}

// delay is one direction of a connection: octets on their way, each with the
// time when it arrives.
type delayQueue struct {
	half    time.Duration
	mu      sync.Mutex
	changed sync.Cond
	queue   []delayedChunk
	octets  int // in queue
	ended   bool
}

type delayedChunk struct {
	due  time.Time
	data []byte
}

// maxUnderWay bounds what a reader that lags behind costs us. It is more than
// any connection has under way: 16 MiB in 50 ms are 2.7 Gbit/s.
const maxInFlight = 16 << 20

func newDelayQueue(half time.Duration) *delayQueue {
	d := &delayQueue{half: half}
	d.changed.L = &d.mu
	return d
}

// fill reads from conn until it ends.
func (d *delayQueue) fill(conn net.Conn, passed func(int)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			passed(n)
		}
		d.mu.Lock()
		for d.octets > maxInFlight && !d.ended {
			d.changed.Wait()
		}
		if n > 0 {
			d.queue = append(d.queue, delayedChunk{time.Now().Add(d.half), append([]byte(nil), buf[:n]...)})
			d.octets += n
		}
		d.ended = d.ended || err != nil
		stop := d.ended
		d.changed.Broadcast()
		d.mu.Unlock()
		if stop {
			return
		}
	}
}

// drain writes to conn what has arrived, until nothing more comes. Then conn
// hears that its peer has ended.
func (d *delayQueue) drain(conn net.Conn, passed func()) {
	for {
		d.mu.Lock()
		for len(d.queue) == 0 && !d.ended {
			d.changed.Wait()
		}
		if len(d.queue) == 0 {
			d.mu.Unlock()
			break
		}
		c := d.queue[0]
		d.queue = d.queue[1:]
		d.octets -= len(c.data)
		d.changed.Broadcast()
		d.mu.Unlock()
		time.Sleep(time.Until(c.due))
		passed()
		if _, err := conn.Write(c.data); err != nil {
			break
		}
	}
	d.mu.Lock()
	d.ended = true
	d.changed.Broadcast()
	d.mu.Unlock()
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			tcp.Close()
		}
	}
}
