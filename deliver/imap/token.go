package imap

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// token is the content of a deliver.Promise.Token, as JSON.
type token struct {
	// Server is the accountDigest, and Folder the folder's name.
	Server string `json:"server"`
	Folder string `json:"folder"`
	// Validity is the folder's UIDVALIDITY, and Next a UID from which on no UID was
	// used; 0 if the server did not say.
	Validity uint32   `json:"validity"`
	Next     imap.UID `json:"next"`
	// Size is the message's size in octets, and Sum the digest of its first headLen
	// octets. Twin is the number of messages before it in its batch with the same Size
	// and Sum.
	Size int64  `json:"size"`
	Sum  string `json:"sum"`
	Twin int    `json:"twin"`
	// ID is the Message-ID, for a search in the whole folder; it may be empty.
	ID string `json:"id,omitempty"`
	// Spool is the name of the batch's spool file.
	Spool string `json:"spool"`
}

// String returns the token as JSON.
func (t token) String() string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would take six octets for one
	if err := e.Encode(t); err != nil {
		panic(err) // strings and integers always marshal
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// parseToken parses a token; ok is false if it is not one of this package.
func parseToken(s string) (t token, ok bool) {
	if json.Unmarshal([]byte(s), &t) != nil {
		return token{}, false
	}
	return t, t.Folder != "" && t.Size > 0 && t.Sum != "" && t.Twin >= 0 &&
		t.Spool != "" && t.Spool == filepath.Base(t.Spool)
}
