package main

import (
	"testing"
	"time"
)

// The speed is measured over the last seconds, and the time left follows from it.
func TestSpeed(t *testing.T) {
	var s speed
	now := time.Unix(1_700_000_000, 0)
	expect := func(speed, left string) {
		t.Helper()
		if got := s.String(); got != speed {
			t.Errorf("speed %q, want %q", got, speed)
		}
		if got := s.timeLeft(1 << 20); got != left {
			t.Errorf("left %q, want %q", got, left)
		}
	}
	s.measure(1000, now)
	expect("", "")
	s.measure(1000, now.Add(time.Millisecond)) // too soon to measure
	expect("", "")
	s.measure(1000+10<<10, now.Add(time.Second))
	expect("10 kB/s", "1:43")
	s.measure(1000+20<<10, now.Add(2*time.Second))
	expect("10 kB/s", "1:43")
	// The speed falls slowly when nothing comes any more.
	s.measure(1000+20<<10, now.Add(3*time.Second))
	expect("7.2 kB/s", "2:23")
	s.measure(1000+20<<10, now.Add(time.Minute))
	expect("", "")

	s = speed{perSecond: 100}
	expect("100 B/s", "2:54:46")
	s = speed{perSecond: 2}
	expect("2 B/s", "")
	if got := s.timeLeft(0); got != "" {
		t.Errorf("nothing left takes %q", got)
	}
}
