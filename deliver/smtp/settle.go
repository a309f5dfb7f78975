package smtp

import (
	"context"
	"encoding/json"
	"path/filepath"
	"regexp"

	"github.com/mailhaul/mailhaul/deliver"
)

// token is the content of a deliver.Promise.Token, as JSON.
type token struct {
	// Ledger is the suffix of the ledger's file, and Key the message's key in it.
	Ledger string `json:"ledger"`
	Key    string `json:"key"`
	// Spool is the name of the batch's spool file, N the message's place in
	// the batch.
	Spool string `json:"spool"`
	N     int    `json:"n"`
	// To are the message's recipients, if they are not those of the sink.
	To []string `json:"to,omitempty"`
}

// maxToken is the length of the longest token, in octets. If the recipients do not fit, the
// token has none.
const maxToken = 4 << 10

// String returns the token as JSON.
func (t token) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	if len(b) > maxToken {
		t.To = nil
		return t.String()
	}
	return string(b)
}

var ledgerName = regexp.MustCompile(`^taken-[0-9a-f]{32}$`)

// parseToken parses a token; ok is false if it is not one of this package.
func parseToken(s string) (t token, ok bool) {
	ok = json.Unmarshal([]byte(s), &t) == nil && ledgerName.MatchString(t.Ledger) &&
		t.Key != "" && t.Spool != "" && t.Spool == filepath.Base(t.Spool)
	return t, ok
}

// Settle implements deliver.Sink. The message has landed if the ledger has every recipient.
// Otherwise Settle returns Unknown: the server may have accepted the message, and its reply
// was lost.
func (s *Sink) Settle(ctx context.Context, promise string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, s.fail("settle", err)
	}
	t, ok := parseToken(promise)
	if !ok {
		return deliver.Unknown, nil
	}
	l := &ledger{spool: s.o.Spool, suffix: t.Ledger, now: s.o.Now}
	known, err := l.read()
	if err != nil {
		return deliver.Unknown, s.o.Spool.Error("read the ledger", err)
	}
	to := s.to
	if len(to) == 0 {
		to = t.To
	}
	if len(to) > 0 && len(subtract(to, known[t.Key].delivered)) == 0 {
		return deliver.Landed, nil
	}
	return deliver.Unknown, s.o.Spool.Remove(t.Spool)
}

// Made implements deliver.Sink. A token does not identify the server.
func (s *Sink) Made(string) bool { return false }
