package fetch

import (
	"strings"
	"time"
)

// host is what Run knows of one way to a host.
type host struct {
	name    string // of the host, whatever the way
	polling int    // polls under way
	opening int    // polls among them that the host has not greeted yet
	outage         // polls in a row that did not reach it
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
