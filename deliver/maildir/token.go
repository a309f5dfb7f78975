package maildir

import (
	"encoding/json"
	"strings"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// token is the content of a deliver.Promise.Token, as JSON.
type token struct {
	// Dir is the Maildir, escaped. The sink may have been given another one since.
	Dir string `json:"dir"`
	// Tmp is the inode number of its tmp/. If tmp/ has another one at Settle, for
	// example because a disk is not mounted, a missing message proves nothing.
	Tmp uint64 `json:"tmp"`
	// Name is the file's name in new/. Its name in tmp/ and the time of delivery can
	// be read from it.
	Name string `json:"name"`
}

// newToken returns a token without Name.
func (s *Sink) newToken() (token, error) {
	ino, err := s.tmpInode()
	if err != nil {
		return token{}, s.osError("open tmp/", err)
	}
	return token{Dir: durable.EscapePath(s.dir), Tmp: ino}, nil
}

// forMessage returns the token, as text, of the message with this name in new/.
func (t token) forMessage(final string) string {
	t.Name = final
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return string(text)
}

// tmpInode returns the inode number of tmp/; 0 if the file system has none.
func (s *Sink) tmpInode() (uint64, error) {
	info, err := s.fs.Stat(s.path("tmp"))
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil
	}
	return st.Ino, nil
}

// parseToken returns the token and its Dir, unescaped. ok is false for the token of
// another sink.
func parseToken(s string) (t token, dir string, ok bool) {
	if json.Unmarshal([]byte(s), &t) != nil || !namePattern.MatchString(t.Name) || strings.Contains(t.Name, "/") {
		return token{}, "", false
	}
	dir, ok = durable.UnescapePath(t.Dir)
	return t, dir, ok
}

// Made implements deliver.Sink.
func (s *Sink) Made(promise string) bool {
	_, dir, ok := parseToken(promise)
	return ok && dir == s.dir
}
