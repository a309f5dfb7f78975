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
	kept []*kept // the one kept last is the last
}

// Session is a connection that a Pool keeps.
type Session interface {
	// Quit takes leave of the server and hangs up. It does not block for long.
	Quit()
}

// kept is a session, and the key of who may have it again.
type kept struct {
	key     any
	session Session
	timer   *time.Timer // ends it
}

// NewPool returns a pool that keeps at most so many connections, besides those
// that are taking leave.
func NewPool(max int) *Pool { return &Pool{max: max} }

// Keep keeps a session for whoever has the key. It quits once it was kept for so long, or
// when it is the oldest of too many.
func (p *Pool) Keep(key any, session Session, long time.Duration) {
	k := &kept{key: key, session: session}
	p.mu.Lock()
	k.timer = time.AfterFunc(long, func() {
		if p.drop(k) {
			session.Quit()
		}
	})
	p.kept = append(p.kept, k)
	var oldest *kept
	if len(p.kept) > p.max {
		oldest = p.remove(0)
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
	for n, k := range slices.Backward(p.kept) {
		if k.key == key {
			return p.remove(n).session
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

// drop keeps a session no more. It reports whether it was kept until now.
func (p *Pool) drop(k *kept) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := slices.Index(p.kept, k)
	if n >= 0 {
		p.remove(n)
	}
	return n >= 0
}

// remove keeps the n-th session no more. The caller holds mu.
func (p *Pool) remove(n int) *kept {
	k := p.kept[n]
	k.timer.Stop()
	p.kept = slices.Delete(p.kept, n, n+1)
	return k
}
