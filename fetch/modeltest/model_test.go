package modeltest

import (
	"fmt"
	"testing"
	"time"
)

func TestCrashes(t *testing.T) {
	for _, p := range []*place{maildirs, mboxes} {
		for _, c := range []struct {
			messages, batch int
			overlap         bool
			troubles, moves int
		}{
			{1, 1, false, 1, 0},
			{1, 1, false, 1, 1},
			{1, 1, false, 2, 0},
			{2, 2, false, 1, 0},
			{2, 1, true, 1, 0},
		} {
			t.Run(fmt.Sprint(p.name, c), func(t *testing.T) {
				s := setting{place: p, messages: c.messages, batch: c.batch, overlap: c.overlap}
				at := time.Now()
				n, err := s.explore(c.troubles, c.moves)
				if err != nil {
					t.Error(err)
				}
				t.Logf("%+v %v", n, time.Since(at))
			})
		}
	}
}
