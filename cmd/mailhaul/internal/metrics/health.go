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
	// staleIntervals is how many intervals an account may be without success, and
	// leastPatience how long in any case: servers that want pauses between
	// logins, and the first haul of a full maildrop, take their time.
	staleIntervals = 3
	minStale       = 30 * time.Minute
	// maxSilence is how long the scheduler may be silent. It says something
	// every 15 seconds.
	maxSilence = time.Minute
)

// Health knows whether a daemon does its work. Its methods may be called from
// several goroutines.
type Health struct {
	now func() time.Time

	mu       sync.Mutex
	lastTurn time.Time
	accounts map[string]*accountProgress
}

// accountProgress is when an account last made progress.
type accountProgress struct {
	every    time.Duration
	delay    time.Duration // that its server wants between two logins
	success  time.Time     // zero for never
	progress time.Time     // a success, mail that landed, or when we began to look
}

// NewHealth returns the health of a daemon that has just begun. now is the
// clock.
func NewHealth(now func() time.Time) *Health {
	return &Health{now: now, lastTurn: now(), accounts: map[string]*accountProgress{}}
}

// SetAccounts says which accounts there are, with their intervals, and when
// those that are new last did well.
func (h *Health) SetAccounts(every map[string]time.Duration, success map[string]time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.accounts
	h.accounts = map[string]*accountProgress{}
	for name, interval := range every {
		a := before[name]
		if a == nil {
			// An hour-long sleep of the machine is no fault of the account.
			a = &accountProgress{success: success[name], progress: h.now()}
		}
		a.every = interval
		h.accounts[name] = a
	}
}

// Turn says that the scheduler is alive.
func (h *Health) Turn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastTurn = h.now()
}

// Observe takes note of success.
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
		if d := e.Schedule.LoginDelay; d > 0 || e.Err == nil { // else it may not be known
			a.delay = time.Duration(d) * time.Second
		}
		if e.Err == nil {
			a.progress, a.success = h.now(), e.Ended
		}
	}
}

// Alive reports whether the scheduler is.
func (h *Health) Alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alive()
}

func (h *Health) alive() bool { return h.now().Sub(h.lastTurn) < maxSilence }

// report is what /healthz says. The names are stable; fields may be added.
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
		limit := max(staleIntervals*a.every, staleIntervals*a.delay, minStale)
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

// serveHealth answers 200 if all is well, else 503, and says why.
func (h *Health) serveHealth(w http.ResponseWriter, _ *http.Request) {
	r := h.report()
	writeJSON(w, r.Status == "ok", r)
}

// serveAlive answers 200 while the scheduler is alive, else 503: then a new
// start may help, which it does not against what ails an account.
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
	_ = json.NewEncoder(w).Encode(body) // who asked may have gone
}
