package fetch

import (
	"strings"
	"time"
)

const (
	// downAfter is how many polls in a row must fail to reach a host for it to be down.
	downAfter = 2
	// hostPause is how long a host that is down is left alone, doubled with each poll
	// that cannot reach it up to longestHostPause.
	hostPause        = 30 * time.Second
	longestHostPause = 15 * time.Minute
)

// host is what Run knows of one way to a host.
type host struct {
	name     string    // of the host, whatever the way
	polling  int       // polls under way
	opening  int       // polls among them that the host has not greeted yet
	failures int       // polls in a row that did not reach it
	retry    time.Time // when it may be tried again if it is down
}

// hostOf returns the host of an account, the same for each account with one way.
func (r *runner) hostOf(a *Account) *host {
	way := a.Server.way()
	h := r.hosts[way]
	if h == nil {
		h = &host{name: a.host()}
		r.hosts[way] = h
	}
	return h
}

// way returns how the server is reached, which identifies it. Other ports, proxies and
// the like of its host may lead to other servers: at localhost, each tunnel has a port
// of its own.
func (s *Server) way() string {
	return strings.TrimSpace(strings.ToLower(s.Addr()) + " " + s.Via.Way())
}

// canPoll reports whether a further poll of a host may begin.
func (r *runner) canPoll(h *host, now time.Time) bool {
	perHost := r.setup.PerHost
	switch {
	case perHost > 0 && r.pollsByHost[h.name] >= perHost:
		return false
	case h.isDown():
		return h.polling == 0 && !h.retry.After(now)
	default:
		return h.opening == 0
	}
}

func (h *host) isDown() bool { return h.failures >= downAfter }

// noteFailure notes that a poll could not reach the host.
func (h *host) noteFailure(now time.Time) {
	h.failures++
	h.retry = now.Add(jitter(doubled(hostPause, h.failures-downAfter, longestHostPause)))
}

// noteSuccess notes that a poll has reached the host. It returns true if the poll
// before had not.
func (h *host) noteSuccess() bool {
	recovered := h.failures > 0
	h.failures = 0
	return recovered
}
