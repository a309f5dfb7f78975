package metrics

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
)

const (
	// An account is stale after staleIntervals of its intervals without success,
	// but not before minStale: some servers want pauses between logins, and the
	// first fetch from a full maildrop takes long.
	staleIntervals = 3
	minStale       = 30 * time.Minute
	// maxSilence is how long the daemon counts as alive after MarkAlive, which its
	// scheduler calls every 15 seconds.
	maxSilence = time.Minute
)

// Health tracks whether a daemon does its work. Its methods may be called from several
// goroutines.
type Health struct {
	now func() time.Time

	mu        sync.Mutex
	lastAlive time.Time
	accounts  map[string]*accountProgress
}

// accountProgress is when an account last made progress, and how often it should.
type accountProgress struct {
	interval   time.Duration // between two polls
	loginDelay time.Duration // that the server wants between two logins
	success    time.Time     // the last one; zero for never
	progress   time.Time     // last success, landing, or the start of the watch
}

// NewHealth returns the health of a daemon that has just started. now is the clock.
func NewHealth(now func() time.Time) *Health {
	return &Health{now: now, lastAlive: now(), accounts: map[string]*accountProgress{}}
}

// SetAccounts sets the accounts with their intervals, and when each new one last
// succeeded.
func (h *Health) SetAccounts(every map[string]time.Duration, success map[string]time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.accounts
	h.accounts = map[string]*accountProgress{}
	for name, interval := range every {
		a := before[name]
		if a == nil {
			// The time before, when the machine may have slept, does not count.
			a = &accountProgress{success: success[name], progress: h.now()}
		}
		a.interval = interval
		h.accounts[name] = a
	}
}

// MarkAlive notes that the scheduler is alive.
func (h *Health) MarkAlive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastAlive = h.now()
}

// Observe notes progress and success.
func (h *Health) Observe(e fetch.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e := e.(type) {
	case fetch.Landed:
		if a := h.accounts[e.Account]; a != nil {
			a.progress = h.now()
		}
	case fetch.Finished:
		a := h.accounts[e.Account]
		if a == nil {
			break
		}
		if d := e.Schedule.LoginDelay; d > 0 || e.Err == nil { // a failed poll may not know it
			a.loginDelay = time.Duration(d) * time.Second
		}
		if e.Err == nil {
			a.progress, a.success = h.now(), e.Ended
		}
	}
}

// Alive reports whether the scheduler is alive.
func (h *Health) Alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alive()
}

func (h *Health) alive() bool { return h.now().Sub(h.lastAlive) < maxSilence }

// report is the response to /healthz. Its names are stable; fields may be added.
type report struct {
	Status   string  `json:"status"` // ok, stale or hung
	Accounts int     `json:"accounts"`
	Stale    []stale `json:"stale"`
}

type stale struct {
	Account     string     `json:"account"`
	LastSuccess *time.Time `json:"last_success"` // null for never
	Seconds     int        `json:"seconds"`      // without success since then, or since the daemon began
	Limit       int        `json:"limit_seconds"`
}

func (h *Health) report() report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := report{Status: "ok", Accounts: len(h.accounts), Stale: []stale{}}
	for name, a := range h.accounts {
		limit := max(staleIntervals*a.interval, staleIntervals*a.loginDelay, minStale)
		without := h.now().Sub(a.progress)
		if without <= limit {
			continue
		}
		s := stale{Account: name, Seconds: int(without.Seconds()), Limit: int(limit.Seconds())}
		if !a.success.IsZero() {
			s.LastSuccess = new(a.success.UTC().Truncate(time.Second))
		}
		r.Status = "stale"
		r.Stale = append(r.Stale, s)
	}
	slices.SortFunc(r.Stale, func(a, b stale) int { return strings.Compare(a.Account, b.Account) })
	if !h.alive() {
		r.Status = "hung"
	}
	return r
}

// serveHealth answers with the report: 200 if its status is ok, and 503 otherwise.
func (h *Health) serveHealth(w http.ResponseWriter, _ *http.Request) {
	r := h.report()
	writeJSON(w, r.Status == "ok", r)
}

// serveAlive answers 200 while the scheduler is alive, and 503 otherwise. It does not
// consider the accounts: a restart, which may follow a 503, would not help them.
func (h *Health) serveAlive(w http.ResponseWriter, _ *http.Request) {
	status, alive := "ok", h.Alive()
	if !alive {
		status = "hung"
	}
	writeJSON(w, alive, map[string]string{"status": status})
}

func writeJSON(w http.ResponseWriter, well bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !well {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the client may have gone
}
