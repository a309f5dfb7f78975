package remote

import (
	"slices"
	"sync"
	"time"
)

// Pool keeps connections that nothing needs just now. All sinks share one, so that
// those that are idle cannot use up what a server or this machine allows.
type Pool struct {
	max int

	mu   sync.Mutex
	idle []*idleSession // the one kept last is the last
}

// Session is a connection that a Pool keeps.
type Session interface {
	// Quit takes leave of the server and hangs up. It does not block for long.
	Quit()
}

// idleSession is a session, and the key of who may have it again.
type idleSession struct {
	key     any
	session Session
	timer   *time.Timer // ends it
}

// NewPool returns a pool that keeps at most so many connections, besides those
// that are taking leave.
func NewPool(max int) *Pool { return &Pool{max: max} }

// Keep keeps a session for whoever has the key. It quits once it was kept for so long, or
// when it is the oldest of too many.
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
		go oldest.session.Quit() // a slow server is no reason to hold up another's mail
	}
}

// Take returns the session that was kept last for a key, and keeps it no
// more; nil if there is none.
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

// Quit has all sessions quit that are kept for a key, and waits for them.
func (p *Pool) Quit(key any) {
	var wg sync.WaitGroup
	for s := p.Take(key); s != nil; s = p.Take(key) {
		wg.Go(s.Quit)
	}
	wg.Wait()
}

// removeIfIdle keeps a session no more. It reports whether it was kept until now.
func (p *Pool) removeIfIdle(k *idleSession) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := slices.Index(p.idle, k)
	if n >= 0 {
		p.removeAt(n)
	}
	return n >= 0
}

// removeAt keeps the n-th session no more. The caller holds mu.
func (p *Pool) removeAt(n int) *idleSession {
	k := p.idle[n]
	k.timer.Stop()
	p.idle = slices.Delete(p.idle, n, n+1)
	return k
}
