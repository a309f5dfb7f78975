package mbox

import (
	"encoding/json"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// token is the content of a deliver.Promise.Token, as JSON. Offsets and lengths are in
// octets.
type token struct {
	// Path is the mbox, escaped, with symbolic links resolved.
	Path string `json:"path"`
	// Spool is the name of the batch's spool file, and N the index of the message in
	// the batch.
	Spool string `json:"spool"`
	N     int    `json:"n"`
	// Offset is the place of the message's From_ line in the mbox. Length is the
	// number of octets from there to the end of the empty line after the message,
	// and Sum their SHA-256. They identify the message if the spool file is gone.
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Sum    string `json:"sum"`
}

// String returns the token as JSON.
func (t token) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return string(b)
}

// parseToken returns the token and its Path, unescaped. ok is false for the token of
// another sink.
func parseToken(s string) (t token, path string, ok bool) {
	if json.Unmarshal([]byte(s), &t) != nil {
		return token{}, "", false
	}
	path, ok = durable.UnescapePath(t.Path)
	ok = ok && t.Spool != "" && filepath.Base(t.Spool) == t.Spool &&
		t.N >= 0 && t.Offset >= 0 && t.Length > 0
	return t, path, ok
}
