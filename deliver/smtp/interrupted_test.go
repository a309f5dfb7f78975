package smtp_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// A server may hang up in the middle of a message that is too large for it. What
// it said to that is about this message, and the others go on.
func TestInterrupted(t *testing.T) {
	t.Run("with a reason", func(t *testing.T) { testInterrupted(t, "552 5.3.4 too large for us", `552 5.3.4 "too large for us"`) })
	t.Run("without one", func(t *testing.T) { testInterrupted(t, "552", `552 ""`) })
}

func testInterrupted(t *testing.T, reply, says string) {
	bodies := 0
	srv := &scripted{reply: func(_ int, verb, _ string) string {
		if verb == "body" {
			if bodies++; bodies == 2 {
				return reply
			}
		}
		return ""
	}}
	script(t, srv)
	s := newSink(t, options(t, srv.addr))
	large := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 150_000) // more than sockets buffer
	out := send(t, t.Context(), s, "me@example.org", body(1), large, body(2))
	if out.err != nil || len(out.receipts) != 3 {
		t.Fatalf("%d receipts, %v", len(out.receipts), out.err)
	}
	for n, r := range out.receipts {
		if n != 1 && r.Err != nil {
			t.Errorf("message %d: %v", n, r.Err)
		}
	}
	why, ok := errors.AsType[*deliver.Error](out.receipts[1].Err)
	if !ok || why.Fault != deliver.FaultMessage || !strings.Contains(why.Error(), says) {
		t.Errorf("the large one: %v", out.receipts[1].Err)
	}
	srv.wantSessions(t, 2)
}
