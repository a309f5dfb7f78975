package remote_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver/remote"
)

// peer records that it was ended.
type peer struct {
	name  string
	ended chan string
}

func (p *peer) Quit() { p.ended <- p.name }

// To make room, the pool ends the connection that was idle for longest, of whichever sink. A
// connection in use is never ended.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan string, 10)
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(ended) > 0 {
				got = append(got, <-ended)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q ended, want %q", what, got, want)
			}
		}
		p := remote.NewPool(2)
		keep := func(sink, name string, long time.Duration) { p.Keep(sink, &peer{name, ended}, long) }

		keep("home", "home 1", time.Minute)
		keep("work", "work 1", time.Minute)
		expect("as many as may be")
		again := p.Take("home")
		if again == nil || again.(*peer).name != "home 1" || p.Take("home") != nil {
			t.Fatalf("home has %v again", again)
		}
		time.Sleep(time.Hour)
		expect("in use", "work 1")

		p.Keep("home", again, time.Hour)
		keep("work", "work 2", time.Hour)
		keep("home", "home 2", time.Hour)
		expect("one too many", "home 1")
		keep("shop", "shop 1", time.Minute)
		expect("another", "work 2")
		p.Quit("home")
		expect("the end of a sink", "home 2")
		time.Sleep(time.Minute)
		expect("idle", "shop 1")
		if s := p.Take("shop"); s != nil {
			t.Errorf("%v is kept after its end", s)
		}
	})
}
