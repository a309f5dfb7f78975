package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The names in the JSON that commands write are stable; fields may be added. Times are
// RFC 3339 in UTC, null for never.

// jsonUID returns the unique-id of a message as valid UTF-8, which JSON requires; empty
// for a message without one.
func jsonUID(key string) string {
	if state.IsDigestKey(key) {
		return ""
	}
	return strings.ToValidUTF8(key, "\ufffd")
}

// writeJSON writes a value as indented JSON.
func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(oneline.JSON(out))
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// jsonTime returns a time from Unix seconds, nil for 0.
func jsonTime(unix int64) *time.Time {
	if unix == 0 {
		return nil
	}
	return new(time.Unix(unix, 0).UTC())
}
