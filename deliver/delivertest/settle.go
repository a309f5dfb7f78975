package delivertest

import (
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// unsettled settles all promises, checks that a second sink gives the same answers,
// and returns the messages, in wire form, that did not land.
func (p *place) unsettled(t *testing.T, sink deliver.Sink, promises []deliver.Promise, wire ...string) (lost []string) {
	t.Helper()
	second := p.open(t)
	for i, promise := range promises {
		v, err := sink.Settle(t.Context(), promise.Token)
		if err != nil {
			t.Fatalf("Settle %d: %v", i, err)
		}
		if again, err := second.Settle(t.Context(), promise.Token); again != v || err != nil {
			t.Errorf("Settle %d = %v; asked again, %v, %v", i, v, again, err)
		}
		if made := sink.Made(promise.Token); made != second.Made(promise.Token) || !made && sink.Profile().Guarantee == deliver.ExactlyOnce {
			t.Errorf("Made %d: %v; by a second sink, %v", i, made, !made)
		}
		if v != deliver.Landed {
			lost = append(lost, wire[i])
		}
	}
	return lost
}

func testSettleAfterCommit(t *testing.T, p *place) {
	sink := p.open(t)
	b := begin(t, sink)
	stage(t, b, hello, again)
	promises := prepare(t, b, 2)
	commit(t, b, 2)
	if sink.Profile().Guarantee != deliver.ExactlyOnce {
		for _, promise := range promises {
			if _, err := sink.Settle(t.Context(), promise.Token); err != nil {
				t.Errorf("Settle: %v", err)
			}
		}
		return
	}
	if lost := p.unsettled(t, sink, promises, hello, again); len(lost) > 0 {
		t.Errorf("Settle after Commit: %d messages have not landed", len(lost))
	}
	p.want(t, hello, again)
}

// The process dies between Prepare and Commit. This runs in memory only: on the disk
// the locks of the sink would not be released.
func testSettleAfterKill(t *testing.T, p *place) {
	if p.mem == nil {
		t.Skip("a process can be killed in memory only")
	}
	sink := p.open(t)
	b := begin(t, sink)
	stage(t, b, hello, again, third)
	promises := prepare(t, b, 3)
	p.kill()
	sink = p.open(t)
	lost := p.unsettled(t, sink, promises, hello, again, third)
	if sink.Profile().Guarantee == deliver.AtLeastOnce {
		return
	}
	put(t, sink, lost...)
	p.want(t, hello, again, third)
}

// A token that the sink did not make never counts as landed.
func testSettleForeignToken(t *testing.T, p *place) {
	sink := p.open(t)
	put(t, sink, hello)
	for _, token := range []string{
		"", "x", "{}", "[]", "null", "../../etc/passwd", `{"tmp":"../../x"}`, strings.Repeat("x", 4096), "\x00", "\xff",
	} {
		if v, err := sink.Settle(t.Context(), token); v == deliver.Landed && err == nil {
			t.Errorf("Settle %.20q = %v", token, v)
		}
		if sink.Made(token) {
			t.Errorf("Made %.20q", token)
		}
	}
	p.want(t, hello)
}

func testSweep(t *testing.T, p *place) {
	if p.mem == nil {
		t.Skip("a process can be killed in memory only")
	}
	sink := p.open(t)
	put(t, sink, hello)
	clean := p.files()
	accounts := []string{"work", "worker", "Work", ""}
	for _, account := range accounts {
		b := begin(t, sink)
		if _, err := b.Stage(t.Context(), deliver.Mail{Account: account, UID: "1"}, strings.NewReader(again)); err != nil {
			t.Fatal(err)
		}
	}
	p.kill()
	sink = p.open(t)
	b := begin(t, sink) // of an account that is not swept
	if _, err := b.Stage(t.Context(), deliver.Mail{Account: "live"}, strings.NewReader(third)); err != nil {
		t.Fatal(err)
	}
	live := p.files()
	for i, account := range append([]string{"nobody"}, accounts...) {
		if err := sink.Sweep(t.Context(), account); err != nil {
			t.Fatalf("Sweep %q: %v", account, err)
		}
		if i == 0 && p.files() != live {
			t.Error("Sweep of an account that left nothing removed something")
		}
		if live > clean+1 && i > 0 && p.files() != live-i {
			t.Errorf("Sweep %q: %d files of %d are left, want %d", account, p.files(), live, live-i)
		}
	}
	prepare(t, b, 1)
	commit(t, b, 1)
	p.want(t, hello, third)
	if n := p.files(); n != clean+1 && n != clean {
		t.Errorf("%d files are left over:\n%s", n-clean, p.mem.Tree())
	}
}
