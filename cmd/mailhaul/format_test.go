package main

import (
	"testing"
	"time"
)

// A server's text does not control the terminal.
func TestClean(t *testing.T) {
	if got := clean("a\x1b[2Jb\rc\n\u009bd\x7fé\xff"); got != "a?[2Jb?c; ?d?é?" {
		t.Errorf("got %q", got)
	}
}

func TestSizesAndSpans(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 kB", 10 << 10: "10 kB", 1000 << 10: "1.0 MB", 5 << 40: "5.0 TB", 1 << 62: "4194304 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 119 * time.Minute: "1 hour", 47 * time.Hour: "47 hours", 48 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
