package mda_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/mda"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// A message that is larger than a file may be is refused, and holds up no other.
func TestTooLargeForAFile(t *testing.T) {
	t.Parallel()
	fsys := durabletest.New()
	fsys.OnOp(durabletest.FailNth(durabletest.Write, 2, syscall.EFBIG))
	sink, err := mda.New(mda.Options{Argv: exitAsTold, Spool: spool.New("/spool", fsys)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := sink.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range []string{"exit 0\r\n", "too large\r\n", "exit 0\r\n"} {
		_, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader(text))
		if e, ok := errors.AsType[*deliver.Error](err); n == 1 {
			if !ok || e.Fault != deliver.FaultMessage || e.Target != "/spool" || !strings.Contains(e.Hint, "max_size") {
				t.Errorf("too large: %v", err)
			}
		} else if err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	landed := 0
	err = b.Commit(t.Context(), func(r deliver.Receipt) error {
		landed++
		return r.Err
	})
	if left, _ := fsys.ReadDir("/spool"); landed != 2 || err != nil || len(left) > 0 {
		t.Errorf("%d landed, %v; left in the spool: %v", landed, err, left)
	}
}
