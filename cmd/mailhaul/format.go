package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

// count returns "1 message", "12 messages".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// size returns a number of octets with a unit and about two digits: "3.4 MB". As in the
// configuration, a kB is 1024 octets.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1000 && unit < 3 {
		f, unit = f/1024, unit+1
	}
	digits := 1
	if f >= 10 {
		digits = 0
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + []string{" kB", " MB", " GB", " TB"}[unit]
}

// span returns a duration in one unit: "5 minutes".
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return count(int(d/time.Second), "second")
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/(24*time.Hour)), "day")
	}
}

// ago returns how long before now t was: "5 minutes ago". t is in Unix seconds; 0 is
// "never".
func ago(t int64, now time.Time) string {
	if t == 0 {
		return "never"
	}
	return span(max(0, now.Sub(time.Unix(t, 0)))) + " ago"
}

// tilde shortens a path below the home folder to "~/…".
func tilde(path string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	if rest, ok := strings.CutPrefix(path, home+string(filepath.Separator)); ok {
		return "~/" + rest
	}
	return path
}

// shellQuoted returns a path as a shell reads it, in quotes if need be.
func shellQuoted(path string) string {
	path = tilde(path)
	needsQuotes := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("~/._-+@:,=%", r)
	}
	if !strings.ContainsFunc(path, needsQuotes) {
		return path
	}
	home := ""
	if rest, ok := strings.CutPrefix(path, "~/"); ok { // a shell expands no ~ in quotes
		home, path = "~/", rest
	}
	return home + "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// describeTLS returns how a connection is protected: "TLS 1.3". cs is nil without TLS.
func describeTLS(cs *tls.ConnectionState) string {
	if cs == nil {
		return "not encrypted"
	}
	if cs.DidResume {
		return tls.VersionName(cs.Version) + ", resumed"
	}
	return tls.VersionName(cs.Version)
}

// clean makes text that may come from a server safe to show on a terminal, in one line.
func clean(s string) string { return oneline.Of(s) }
