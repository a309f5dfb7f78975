package main

import (
	"fmt"
	"math"
	"time"
)

// speed is a moving average of how fast a number of octets grows. The zero value is
// ready to use.
type speed struct {
	octets    int64     // at the last measurement
	at        time.Time // the last measurement
	perSecond float64
}

const (
	// speedTimeConstant is the age at which a measurement has 1/e of its weight.
	speedTimeConstant = 3 * time.Second
	// minSpeedInterval is the shortest interval that is measured.
	minSpeedInterval = 100 * time.Millisecond
)

// measure records the number of octets at now.
func (s *speed) measure(octets int64, now time.Time) {
	took := now.Sub(s.at)
	switch {
	case s.at.IsZero():
	case took < minSpeedInterval:
		return
	case s.perSecond == 0:
		s.perSecond = float64(octets-s.octets) / took.Seconds()
	default:
		weight := 1 - math.Exp(-took.Seconds()/speedTimeConstant.Seconds())
		s.perSecond += weight * (float64(octets-s.octets)/took.Seconds() - s.perSecond)
	}
	s.octets, s.at = octets, now
}

// String returns the speed, "3.4 MB/s", or "" while it is not known.
func (s *speed) String() string {
	if s.perSecond < 1 {
		return ""
	}
	return size(int64(s.perSecond)) + "/s"
}

// timeLeft returns how long that many octets will take, as "0:31" or "1:02:03", or "" if
// that is not known or above 99 hours.
func (s *speed) timeLeft(octets int64) string {
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
