package durable

import (
	"net/url"
	"path/filepath"
	"strings"
)

// MaxEscapedPath is the longest result of EscapePath that fits into the token of a
// promise, in octets: a deliver.Promise.Token has at most 4 KiB.
const MaxEscapedPath = 3000

// EscapePath escapes a path as in a URL, so that it can be a string in JSON: a path
// may contain any byte, and encoding/json replaces what is not UTF-8.
func EscapePath(path string) string {
	// encoding/json would write an ampersand as six octets.
	return strings.ReplaceAll((&url.URL{Path: path}).EscapedPath(), "&", "%26")
}

// UnescapePath undoes EscapePath. ok is false if the result is not an absolute path.
func UnescapePath(escaped string) (path string, ok bool) {
	path, err := url.PathUnescape(escaped)
	return path, err == nil && filepath.IsAbs(path)
}
