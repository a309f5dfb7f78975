package imap_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// TestSettleRefused has the server refuse to show the folder. Only that there
// is none answers the question; what may pass leaves it, and the spool file,
// for later.
func TestSettleRefused(t *testing.T) {
	for _, test := range []struct {
		name, verb, reply, listed string
		open                      bool // the promise stays
	}{
		{"busy", "EXAMINE", "NO not now", `() "/" INBOX`, true},
		{"busy, with a code", "EXAMINE", "NO [INUSE] not now", "", true},
		{"none", "EXAMINE", "NO not so", "", false},
		{"none, with a code", "EXAMINE", "NO [NONEXISTENT] not so", `() "/" INBOX`, false},
		{"none, with a code in lower case", "EXAMINE", "no [nonexistent] not so", `() "/" INBOX`, false},
		{"not selectable", "EXAMINE", "NO not so", `(\Noselect) "/" INBOX`, false},
		{"another", "EXAMINE", "NO not so", `() "/" INBOX2`, false},
		{"search busy", "UID SEARCH", "NO not now", "", true},
		{"search unknown", "UID SEARCH", "BAD what", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := script{caps: "LITERAL+ UIDPLUS", listed: test.listed, replies: map[string]string{test.verb: test.reply}}
			dir := t.TempDir()
			s := open(t, options(script.start(t), durable.OS, dir))
			_, promises := stage(t, s, "Message-ID: <a@example.org>\r\n\r\n")
			v, err := s.Settle(t.Context(), promises[0].Token)
			left, _ := os.ReadDir(fmt.Sprintf("%s/spool", dir))
			if !test.open {
				if v != deliver.Unknown || err != nil || len(left) != 0 {
					t.Errorf("Settle = %v, %v, and %d files are left", v, err, len(left))
				}
				return
			}
			if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || len(left) != 1 {
				t.Errorf("Settle = %v, %v, and %d files are left", v, err, len(left))
			}
		})
	}
}

// TestSettleFindsNonsense has a server find what cannot be, or all there could be. That
// answers no question, and takes neither the time nor the memory for all of it.
func TestSettleFindsNonsense(t *testing.T) {
	for _, found := range []string{
		"SEARCH 0", "SEARCH 0 1", "SEARCH 4294967295", "SEARCH 1 4294967295",
		`ESEARCH (TAG "%s") UID ALL 1:4294967295`, `ESEARCH (TAG "%s") UID ALL 1:4000000000`,
	} {
		t.Run(found, func(t *testing.T) {
			script := script{caps: "LITERAL+ UIDPLUS", found: found}
			s := open(t, options(script.start(t), durable.OS, t.TempDir()))
			_, promises := stage(t, s, "Message-ID: <a@example.org>\r\n\r\n")
			if v, err := s.Settle(t.Context(), promises[0].Token); v != deliver.Unknown || err != nil {
				t.Errorf("Settle = %v, %v", v, err)
			}
			if !strings.Contains(script.commands(), "UID FETCH") && found != "SEARCH 0" {
				t.Error("what was found was not looked at")
			}
		})
	}
}
