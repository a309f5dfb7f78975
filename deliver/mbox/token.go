package mbox

import (
	"encoding/json"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// token is what a promise of this sink says. Offsets and lengths are in
// octets.
type token struct {
	// Path is the mbox, symbolic links resolved and escaped.
	Path string `json:"path"`
	// Spool is the name of the batch's spool file, N the message's place in
	// the batch.
	Spool string `json:"spool"`
	N     int    `json:"n"`
	// Offset is where the message's From_ line stands in the mbox, Length
	// counts from there to the end of its separator line, and Sum is the
	// SHA-256 of these bytes: by them the message is found when the spool
	// file is gone.
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Sum    string `json:"sum"`
}

// String returns the token in the form that a promise carries.
func (t token) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return string(b)
}

// parseToken returns the token and its path unescaped.
func parseToken(s string) (t token, path string, ok bool) {
	if json.Unmarshal([]byte(s), &t) != nil {
		return token{}, "", false
	}
	path, ok = durable.UnescapePath(t.Path)
	ok = ok && t.Spool != "" && filepath.Base(t.Spool) == t.Spool &&
		t.N >= 0 && t.Offset >= 0 && t.Length > 0
	return t, path, ok
}
