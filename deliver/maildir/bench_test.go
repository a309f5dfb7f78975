package maildir_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

// BenchmarkStage stages a message in tmp/ and aborts. No sync is waited for.
func BenchmarkStage(b *testing.B) {
	for _, size := range []int{2 << 10, 8 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			line := strings.Repeat("x", 72) + "\r\n"
			wire := strings.Repeat(line, size/len(line))
			s, err := maildir.New(b.TempDir()+"/Maildir", maildir.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				batch, err := s.Begin(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := batch.Stage(b.Context(), deliver.Mail{Account: "work"}, strings.NewReader(wire)); err != nil {
					b.Fatal(err)
				}
				if err := batch.Abort(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
