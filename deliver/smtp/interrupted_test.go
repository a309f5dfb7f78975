package smtp_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// A server may reply in the middle of a message that is too large for it, and hang up. The
// reply refuses this message, and the others are delivered.
func TestInterrupted(t *testing.T) {
	t.Run("with a reason", func(t *testing.T) { testInterrupted(t, "552 5.3.4 too large for us", `552 5.3.4 "too large for us"`) })
	t.Run("without one", func(t *testing.T) { testInterrupted(t, "552", `552 ""`) })
}

func testInterrupted(t *testing.T, reply, text string) {
	bodies := 0
	srv := &scripted{reply: func(_ int, verb, _ string) string {
		if verb == "body" {
			if bodies++; bodies == 2 {
				return reply
			}
		}
		return ""
	}}
	srv.start(t)
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
	e, ok := errors.AsType[*deliver.Error](out.receipts[1].Err)
	if !ok || e.Fault != deliver.FaultMessage || !strings.Contains(e.Error(), text) {
		t.Errorf("the large message: %v", out.receipts[1].Err)
	}
	srv.wantSessions(t, 2)
}
