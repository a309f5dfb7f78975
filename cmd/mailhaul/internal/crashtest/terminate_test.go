//go:build linux && amd64

package crashtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

// endAround sends SIGTERM to a daemon at a random moment, once or twice; the second has it
// hang up. The daemon must end by itself, with exit code 0.
func endAround(n int, bytes int64, turns, signals int) kill {
	return func(w *world) (bool, string, error) {
		now := w.after(n, bytes, turns)
		p := w.fetch()
		p.args[0] = "daemon"
		e, err := p.disturbed(now, func(proc *os.Process) {
			for range signals {
				proc.Signal(syscall.SIGTERM)
			}
		})
		w.drop.ClearFaults()
		if err == nil && (e.killed || e.code != 0) {
			err = fmt.Errorf("the daemon ended with code %d, killed: %v:\n%s", e.code, e.killed, e.output)
		}
		return true, fmt.Sprintf("%d signals %d turns after %d bytes of reply %d", signals, turns, bytes, n), err
	}
}

// TestTerminate ends a daemon at random moments. After each a mail reader sees only whole
// messages. After one more run every message is there once, and nothing is left over.
func TestTerminate(t *testing.T) {
	for _, sink := range sinks {
		t.Run(sink, func(t *testing.T) {
			t.Parallel()
			l := workload{sink: sink, messages: 9, perSession: 4}
			_, replies, err := runUnharmed(l)
			if err != nil {
				t.Fatal(err)
			}
			many := 25
			if full {
				many = 1000
			}
			var ends, kills []kill
			for range many {
				// A reply beyond the last one would never come.
				n, bytes, turns := 1+rand.N(replies*3/4), rand.Int64N(1<<rand.N(18)), rand.N(1<<rand.N(16))
				ends = append(ends, endAround(n, bytes, turns, 1+rand.N(2)))
				kills = append(kills, killAround(n, bytes, turns))
			}
			if got := killAll(t, l, ends, kills); got.verdict != (verdict{}) || got.tried != many {
				t.Errorf("%+v after %d ends", got.verdict, got.tried)
			}
		})
	}
}
