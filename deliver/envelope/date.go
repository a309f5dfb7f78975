package envelope

import (
	"strconv"
	"strings"
	"time"
)

// zones are the names of time zones in RFC 5322 §4.3, in hours east of Greenwich. All other
// names are ambiguous and count as UTC.
var zones = map[string]int{
	"EST": -5, "EDT": -4, "CST": -6, "CDT": -5,
	"MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}

// parseDate parses a date in the form of RFC 5322 §3.3, in the obsolete forms of §4.3, or in
// that of asctime, which old programs write. The parts may come in any order, since each has
// a form of its own. It returns the zero time if a part is missing or out of range.
func parseDate(s string) time.Time {
	var day, year, offset int
	var month time.Month
	var clock string
	for w := range strings.FieldsFuncSeq(dropComments(s), isDateBreak) {
		switch {
		case strings.Contains(w, ":"):
			clock = w
		case w[0] == '+' || (w[0] == '-' && len(w) == 5):
			offset = numericZone(w)
		case isDigit(w[0]):
			n, err := strconv.Atoi(w)
			switch {
			case err != nil || n < 0:
				return time.Time{}
			case day == 0 && len(w) <= 2:
				day = n
			default:
				year = fullYear(n, len(w))
			}
		case month == 0 && monthOf(w) != 0:
			month = monthOf(w)
		default:
			offset += zones[strings.ToUpper(w)] * 3600
		}
	}
	hour, minute, second, ok := parseClock(clock)
	if !ok || day == 0 || month == 0 || year < 1900 || year > 9999 {
		return time.Time{}
	}
	t := time.Date(year, month, day, hour, minute, second, 0, time.FixedZone("", offset))
	if t.Day() != day && second < 60 {
		return time.Time{} // 31 Feb
	}
	return t
}

// fullYear returns the year for a number of that many digits (RFC 5322 §4.3).
func fullYear(n, digits int) int {
	switch {
	case digits <= 2 && n < 50:
		return n + 2000
	case digits <= 3:
		return n + 1900
	default:
		return n
	}
}

// monthOf returns the month whose first three letters w begins with, or 0.
func monthOf(w string) time.Month {
	if len(w) >= 3 {
		for m := time.January; m <= time.December; m++ {
			if strings.EqualFold(w[:3], m.String()[:3]) {
				return m
			}
		}
	}
	return 0
}

// numericZone returns a zone like "+0130" in seconds east of Greenwich, and 0 for an invalid
// one.
func numericZone(w string) int {
	n, err := strconv.Atoi(w)
	if err != nil || len(w) != 5 || n%100 <= -60 || n%100 >= 60 {
		return 0
	}
	return n/100*3600 + n%100*60
}

// parseClock parses "15:04" or "15:04:05". A leap second is second 60.
func parseClock(s string) (hour, minute, second int, ok bool) {
	var n [3]int
	i := 0
	for part := range strings.SplitSeq(s, ":") {
		if i == len(n) {
			return 0, 0, 0, false
		}
		v, err := strconv.Atoi(part)
		if err != nil || v < 0 || v > [...]int{23, 59, 60}[i] {
			return 0, 0, 0, false
		}
		n[i] = v
		i++
	}
	return n[0], n[1], n[2], i >= 2
}

// dropComments removes what is in parentheses.
func dropComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}
	var b strings.Builder
	depth := 0
	for _, r := range s {
		switch {
		case r == '(':
			depth++
		case r == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isDateBreak reports whether r separates the parts of a date.
func isDateBreak(r rune) bool { return r == ' ' || r == '\t' || r == ',' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
