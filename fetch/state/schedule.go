package state

// Schedule is when an account is polled again, and what that depends on. Times
// are Unix seconds; 0 is none.
type Schedule struct {
	// Next is when the daemon means to poll the account. Where none runs, it
	// is when the last one meant to.
	Next int64
	// NotBefore is until when the server wants no login, and Pause why, in a
	// few words.
	NotBefore int64
	Pause     string
	// LoginDelay is the least time between two logins that the server last
	// asked for, in seconds (RFC 2449 §6.5).
	LoginDelay int64
	// Failures counts the polls that failed since the last that did not, other
	// than by some of several sinks, and Refusals the logins refused since the
	// last that was not.
	Failures, Refusals int
	// LastSuccess is when the latest poll that failed in nothing ended. SavePoll
	// sets it by itself.
	LastSuccess int64
}

const scheduleColumns = "next_poll, not_before, pause, login_delay, failures, refusals, last_success"

// scanTargets returns where a row of scheduleColumns is read to.
func (s *Schedule) scanTargets() []any {
	return []any{&s.Next, &s.NotBefore, &s.Pause, &s.LoginDelay, &s.Failures, &s.Refusals, &s.LastSuccess}
}
