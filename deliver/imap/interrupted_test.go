package imap_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// TestInterrupted has servers hang up as soon as they have seen enough of a message.
// What they said before that is told, and a refusal counts.
func TestInterrupted(t *testing.T) {
	large, small := letter("a", 12<<20), letter("b", 100) // more than sockets buffer
	for _, caps := range []string{"LITERAL+ UIDPLUS", "LITERAL- UIDPLUS"} {
		for _, test := range []struct {
			says, text string
			refused    bool
		}{
			{"* BYE [TOOBIG] not so much\r\n", `"[TOOBIG] not so much"`, false}, // RFC 7888 §4
			{"TAG NO [TOOBIG] not so much\r\n", `NO [TOOBIG] "not so much"`, true},
			{"* BYE enough\r\nTAG NO [TOOBIG] not so much\r\n", `NO [TOOBIG] "not so much"`, true},
			{"TAG OK it is here\r\n", "connection|broken pipe", false}, // in the system's words or ours
		} {
			s := script{caps: caps, interrupt: test.says}
			b, _ := stage(t, open(t, options(s.start(t), durable.OS, t.TempDir())), large, small)
			receipts, err := commit(t.Context(), b)
			if test.refused {
				if err != nil || len(receipts) != 2 || receipts[1].Err != nil {
					t.Errorf("%s: %q: %+v, %v", caps, test.says, receipts, err)
				}
				if err = receipts[0].Err; delivertest.FaultOf(err) != deliver.FaultMessage {
					t.Errorf("%s: %q: %v", caps, test.says, err)
				}
			} else if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || e.Untaken || len(receipts) > 0 {
				t.Errorf("%s: %q: Commit = %v, %+v", caps, test.says, err, receipts)
			}
			told := func(text string) bool { return strings.Contains(err.Error(), text) }
			if err != nil && !slices.ContainsFunc(strings.Split(test.text, "|"), told) {
				t.Errorf("%s: %q: %v", caps, test.says, err)
			}
		}
	}
}
