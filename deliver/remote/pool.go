package remote

import (
	"slices"
	"sync"
	"time"
)

// Pool keeps unused connections. All sinks share one, so that idle connections cannot use
// up what a server or this machine allows.
type Pool struct {
	max int

	mu   sync.Mutex
	idle []*idleSession // the oldest first
}

// Session is a connection that a Pool keeps.
type Session interface {
	// Quit ends the session and closes the connection. It does not block for long.
	Quit()
}

// idleSession is a session in the pool, and the key by which Take finds it.
type idleSession struct {
	key     any
	session Session
	timer   *time.Timer // calls its Quit
}

// NewPool returns a pool that keeps at most max connections, not counting those whose
// Quit is running.
func NewPool(max int) *Pool { return &Pool{max: max} }

// Keep keeps a session for the next Take with the same key. The pool calls its Quit after
// maxIdle, or when it is the oldest of more than max sessions.
func (p *Pool) Keep(key any, session Session, maxIdle time.Duration) {
	k := &idleSession{key: key, session: session}
	p.mu.Lock()
	k.timer = time.AfterFunc(maxIdle, func() {
		if p.removeIfIdle(k) {
			session.Quit()
		}
	})
	p.idle = append(p.idle, k)
	var oldest *idleSession
	if len(p.idle) > p.max {
		oldest = p.removeAt(0)
	}
	p.mu.Unlock()
	if oldest != nil {
		go oldest.session.Quit() // in the background, since its server may be slow
	}
}

// Take removes the session that was kept last for a key from the pool and returns it. It
// returns nil if there is none.
func (p *Pool) Take(key any) Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, k := range slices.Backward(p.idle) {
		if k.key == key {
			return p.removeAt(n).session
		}
	}
	return nil
}

// Quit calls Quit of all sessions that are kept for a key, and waits for them.
func (p *Pool) Quit(key any) {
	var wg sync.WaitGroup
	for s := p.Take(key); s != nil; s = p.Take(key) {
		wg.Go(s.Quit)
	}
	wg.Wait()
}

// removeIfIdle removes a session from the pool and reports whether it was there.
func (p *Pool) removeIfIdle(k *idleSession) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := slices.Index(p.idle, k)
	if n >= 0 {
		p.removeAt(n)
	}
	return n >= 0
}

// removeAt removes and returns the n-th session. The caller holds mu.
func (p *Pool) removeAt(n int) *idleSession {
	k := p.idle[n]
	k.timer.Stop()
	p.idle = slices.Delete(p.idle, n, n+1)
	return k
}
