package main

import (
	"fmt"
	"math"
	"time"
)

// speed measures how fast a number of octets grows. What was long ago counts
// for less and less.
type speed struct {
	octets    int64
	at        time.Time
	perSecond float64
}

const (
	// memory is after how long a measurement counts for a third.
	memory = 3 * time.Second
	// moment is the shortest time that is measured.
	moment = 100 * time.Millisecond
)

// measure takes in how many octets there are now.
func (s *speed) measure(octets int64, now time.Time) {
	took := now.Sub(s.at)
	switch {
	case s.at.IsZero():
	case took < moment:
		return
	case s.perSecond == 0:
		s.perSecond = float64(octets-s.octets) / took.Seconds()
	default:
		weight := 1 - math.Exp(-took.Seconds()/memory.Seconds())
		s.perSecond += weight * (float64(octets-s.octets)/took.Seconds() - s.perSecond)
	}
	s.octets, s.at = octets, now
}

// String returns the speed, or "" as long as there is none.
func (s *speed) String() string {
	if s.perSecond < 1 {
		return ""
	}
	return size(int64(s.perSecond)) + "/s"
}

// left returns how long that many octets will take, as "0:31" or "1:02:03", or
// "" if nobody knows.
func (s *speed) left(octets int64) string {
	if s.perSecond < 1 || octets <= 0 {
		return ""
	}
	seconds := int64(math.Ceil(float64(octets) / s.perSecond))
	switch hours := seconds / 3600; {
	case hours > 99:
		return ""
	case hours > 0:
		return fmt.Sprintf("%d:%02d:%02d", hours, seconds/60%60, seconds%60)
	}
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}
