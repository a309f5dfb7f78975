// Package metrics counts what polls do, for Prometheus.
//
// Metrics counts the events of polls (Observe). The daemon serves them over HTTP by
// Listen (server.go), together with its Health: whether the scheduler runs, and which
// accounts have had no success for too long (health.go). A File (file.go, merge.go)
// adds them to a text file for the collector of node_exporter, which works for runs
// from cron as well.
package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mailhaul/mailhaul/fetch"
)

// Build identifies the version of mailhaul.
type Build struct{ Version, Commit, Go string }

// results are the values of the label result: the classes of polls, and skipped.
var results = []string{
	fetch.ClassFine.String(), fetch.ClassRefused.String(), fetch.ClassRetry.String(),
	fetch.ClassOperator.String(), fetch.ClassMachine.String(), skipped,
}

const skipped = "skipped"

// Metrics holds the counts of one process. Its methods may be called from several
// goroutines. It has a registry of its own, so that a process without metrics does
// not pay for any.
type Metrics struct {
	registry *prometheus.Registry

	polls, messages, octets                *prometheus.CounterVec
	dropped, deleted                       *prometheus.CounterVec
	refused, tooLarge, listed, needsPerson *prometheus.GaugeVec
	lastPoll, lastSuccess, lastDuration    *prometheus.GaugeVec
	duration                               prometheus.Histogram

	mu       sync.Mutex
	accounts map[string]bool // false if the account was removed
}

// New returns metrics that have counted nothing.
func New(b Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), accounts: map[string]bool{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"account"}, labels...))
		m.registry.MustRegister(v)
		return v
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"account"})
		m.registry.MustRegister(v)
		return v
	}
	m.polls = counter("mailhaul_polls_total",
		"Polls by result: fine; refused (some messages stay on the server); retry, person (one is needed) and machine are failures; skipped (another process was polling, or the server wants a pause).", "result")
	m.messages = counter("mailhaul_fetched_messages_total", "Messages that are safe in their sinks.")
	m.octets = counter("mailhaul_fetched_bytes_total", "Size of those messages, as the server sent them.")
	m.dropped = counter("mailhaul_dropped_messages_total", "Messages that a filter dropped: they are in no sink.")
	m.deleted = counter("mailhaul_deleted_messages_total", "Messages whose deletion the server confirmed.")
	m.listed = gauge("mailhaul_server_messages", "Messages on the server when it was last looked at.")
	m.refused = gauge("mailhaul_refused_messages", "Messages that stay on the server because they cannot be fetched or delivered.")
	m.tooLarge = gauge("mailhaul_too_large_messages", "Messages that stay on the server because they are over max_size.")
	m.needsPerson = gauge("mailhaul_needs_person", "1 if the last poll failed and a person is needed, 0 if not.")
	m.lastPoll = gauge("mailhaul_last_poll_timestamp_seconds", "When the last poll ended.")
	m.lastSuccess = gauge("mailhaul_last_success_timestamp_seconds", "When the last poll ended that did not fail; 0 if there was none.")
	m.lastDuration = gauge("mailhaul_last_poll_duration_seconds", "How long the last poll took.")
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "mailhaul_poll_duration_seconds", Help: "How long polls took.",
		Buckets: []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
	})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mailhaul_build_info", Help: "Always 1; the labels say which mailhaul this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	info.Set(1)
	m.registry.MustRegister(m.duration, info)
	return m
}

// AddProcess adds metrics of the process itself: memory, files, processor time.
func (m *Metrics) AddProcess() {
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
}

// SetAccounts sets the accounts. Their counters start at 0 at once, so that Prometheus
// sees the first failure as an increase. Those of other accounts are deleted.
func (m *Metrics) SetAccounts(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, account := range names {
		if !m.accounts[account] {
			m.addAccount(account)
		}
	}
	for account, in := range m.accounts {
		if in && !slices.Contains(names, account) {
			m.removeAccount(account)
		}
	}
}

// SetSuccess sets when the last poll without any error ended, in an earlier process; the
// zero time is never.
func (m *Metrics) SetSuccess(account string, at time.Time) {
	m.lastSuccess.WithLabelValues(account).Set(unixSeconds(at))
}

func (m *Metrics) addAccount(account string) {
	m.accounts[account] = true
	for _, result := range results {
		m.polls.WithLabelValues(account, result)
	}
	for _, v := range []*prometheus.CounterVec{m.messages, m.octets, m.dropped, m.deleted} {
		v.WithLabelValues(account)
	}
}

func (m *Metrics) removeAccount(account string) {
	m.accounts[account] = false
	all := prometheus.Labels{"account": account}
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.polls, m.messages, m.octets, m.dropped, m.deleted, m.refused, m.tooLarge, m.listed, m.needsPerson,
		m.lastPoll, m.lastSuccess, m.lastDuration,
	} {
		v.DeletePartialMatch(all)
	}
}

// Observe counts an event. Dry runs, and polls that did not begin, do not count.
func (m *Metrics) Observe(e fetch.Event) {
	f, ok := e.(fetch.Finished)
	if !ok || f.Would != nil || f.Started.IsZero() {
		return
	}
	s, account := f.Summary, f.Account
	m.mu.Lock()
	defer m.mu.Unlock()
	if in, known := m.accounts[account]; known && !in {
		return // the account was removed during the poll
	} else if !known {
		m.addAccount(account)
	}
	if s.Skipped {
		m.polls.WithLabelValues(account, skipped).Inc()
		return
	}
	m.polls.WithLabelValues(account, s.Class.String()).Inc()
	m.messages.WithLabelValues(account).Add(float64(s.Fetched))
	m.octets.WithLabelValues(account).Add(float64(s.Octets))
	m.dropped.WithLabelValues(account).Add(float64(s.Dropped))
	m.deleted.WithLabelValues(account).Add(float64(s.Deleted))
	took := max(0, s.Ended.Sub(s.Started).Seconds())
	m.duration.Observe(took)
	m.lastDuration.WithLabelValues(account).Set(took)
	m.lastPoll.WithLabelValues(account).Set(unixSeconds(s.Ended))
	needs := 0.0
	if s.Class >= fetch.ClassOperator {
		needs = 1
	}
	m.needsPerson.WithLabelValues(account).Set(needs)
	if s.Err == nil { // otherwise the listing may be incomplete, or of an earlier poll
		m.lastSuccess.WithLabelValues(account).Set(unixSeconds(s.Ended))
		m.listed.WithLabelValues(account).Set(float64(max(0, s.Listed-s.Deleted)))
		m.refused.WithLabelValues(account).Set(float64(s.Refused))
		m.tooLarge.WithLabelValues(account).Set(float64(s.TooLarge))
	}
}

// unixSeconds returns a time in Unix seconds, 0 for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
