package state

// Schedule says when to poll an account again. Times are Unix seconds; 0 is none.
type Schedule struct {
	// Next is when the daemon will poll the account, or would have if it no
	// longer runs.
	Next int64
	// NotBefore is until when the server wants no login, and Pause says why in
	// a few words.
	NotBefore int64
	Pause     string
	// LoginDelay is the least time between two logins that the server last
	// asked for, in seconds (RFC 2449 §6.5).
	LoginDelay int64
	// Failures counts the polls that failed since the last success, except
	// those where only some of several sinks failed. Refusals counts the
	// logins refused since the last that was accepted.
	Failures, Refusals int
	// LastSuccess is when the latest poll without any error ended. SavePoll
	// sets it from Poll.Ended.
	LastSuccess int64
}

const scheduleColumns = "next_poll, not_before, pause, login_delay, failures, refusals, last_success"

// scanTargets returns where to scan scheduleColumns.
func (s *Schedule) scanTargets() []any {
	return []any{&s.Next, &s.NotBefore, &s.Pause, &s.LoginDelay, &s.Failures, &s.Refusals, &s.LastSuccess}
}
