package maildir_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

// A message that exceeds the maximum size of a file is refused. The others are delivered.
func TestTooLargeForAFile(t *testing.T) {
	fsys := durabletest.New()
	fsys.OnOp(durabletest.FailNth(durabletest.Write, 2, syscall.EFBIG))
	b, err := open(t, "/m", maildir.Options{FS: fsys}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range []string{"before", "too large", "after"} {
		_, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader(text))
		if n == 1 {
			wantFault(t, err, deliver.FaultMessage, "write a message to tmp/", "max_size")
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
	if entries, _ := fsys.ReadDir("/m/tmp"); landed != 2 || err != nil || len(entries) > 0 {
		t.Errorf("%d landed, %v; left in tmp/: %v", landed, err, entries)
	}
}
