package fetch

import "time"

// pauses are the times for which a refused message is left alone, by the
// number of failed attempts; the last one goes for all that follow.
var pauses = []time.Duration{
	15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// pause returns for how long to leave a message alone that has now failed
// tries times.
func pause(tries int) time.Duration {
	return pauses[min(max(tries, 1), len(pauses))-1]
}
