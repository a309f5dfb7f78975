package smtp

import (
	"context"
	"encoding/json"
	"path/filepath"
	"regexp"

	"github.com/mailhaul/mailhaul/deliver"
)

// token is what a promise of this sink says.
type token struct {
	// Ledger is the suffix of the ledger's file, Key the message in it.
	Ledger string `json:"ledger"`
	Key    string `json:"key"`
	// Spool is the name of the batch's spool file, N the message's place in
	// the batch.
	Spool string `json:"spool"`
	N     int    `json:"n"`
	// To are the message's recipients if they are its own.
	To []string `json:"to,omitempty"`
}

// maxToken is the longest token, in octets. One with more recipients than fit
// is without them.
const maxToken = 4 << 10

// String returns the token in the form that a promise carries.
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

func parseToken(s string) (t token, ok bool) {
	ok = json.Unmarshal([]byte(s), &t) == nil && ledgerName.MatchString(t.Ledger) &&
		t.Key != "" && t.Spool != "" && t.Spool == filepath.Base(t.Spool)
	return t, ok
}

// Settle implements deliver.Sink. The message has landed if the ledger says
// so for every recipient. Else nobody knows: the server may have taken it
// without our hearing of it.
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

// Made implements deliver.Sink: a ledger goes by its sink's name.
func (s *Sink) Made(string) bool { return false }
