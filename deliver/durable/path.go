package durable

import (
	"net/url"
	"path/filepath"
	"strings"
)

// MaxEscapedPath bounds the octets of an escaped path in a promise, so that
// all of the promise stays under the 4 KiB that a caller must be ready to
// keep.
const MaxEscapedPath = 3000

// EscapePath escapes a path as in a URL: a path may hold any byte, text may
// not. JSON takes the result as it is; by itself it would turn what is not
// UTF-8 into something else.
func EscapePath(path string) string {
	// JSON would make six octets of an ampersand.
	return strings.ReplaceAll((&url.URL{Path: path}).EscapedPath(), "&", "%26")
}

// UnescapePath undoes EscapePath. It reports false for what is not an absolute
// path.
func UnescapePath(escaped string) (path string, ok bool) {
	path, err := url.PathUnescape(escaped)
	return path, err == nil && filepath.IsAbs(path)
}
