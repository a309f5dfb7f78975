package delivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/mailhaul/mailhaul/deliver"
)

const (
	hello = "Subject: hello\r\n\r\nHello.\r\n"
	again = "Subject: again\r\n\r\nHello again.\r\n"
	third = "Subject: third\r\n\r\nThe third.\r\n"
)

func mail(uid string) deliver.Mail {
	return deliver.Mail{Account: "work", User: "me@example.org", UID: uid, Sender: "you@example.org"}
}

func begin(t *testing.T, sink deliver.Sink) deliver.Batch {
	t.Helper()
	b, err := sink.Begin(t.Context())
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return b
}

func stage(t *testing.T, b deliver.Batch, wire ...string) {
	t.Helper()
	for i, w := range wire {
		if _, err := b.Stage(t.Context(), mail(fmt.Sprint("uid", i)), strings.NewReader(w)); err != nil {
			t.Fatalf("Stage: %v", err)
		}
	}
}

// prepare calls Prepare and checks the number and the form of the promises.
func prepare(t *testing.T, b deliver.Batch, messages int) []deliver.Promise {
	t.Helper()
	promises, err := b.Prepare(t.Context())
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	if len(promises) != messages {
		t.Fatalf("%d promises for %d messages", len(promises), messages)
	}
	tokens := make(map[string]bool)
	for i, p := range promises {
		if int(p.Ticket) != i {
			t.Errorf("promise %d is for ticket %d", i, p.Ticket)
		}
		if n := len(p.Token); n == 0 || n > 4096 {
			t.Errorf("promise %d: a token of %d octets", i, n)
		}
		if strings.ContainsFunc(p.Token, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			t.Errorf("promise %d: not plain text: %q", i, p.Token)
		}
		if tokens[p.Token] {
			t.Errorf("promise %d: same token as another: %q", i, p.Token)
		}
		tokens[p.Token] = true
	}
	return promises
}

// Prepare stages messages in a new batch, prepares it, and returns it with the tokens
// of its promises.
func Prepare(t *testing.T, sink deliver.Sink, mail deliver.Mail, wire ...string) (b deliver.Batch, tokens []string) {
	t.Helper()
	b = begin(t, sink)
	for _, w := range wire {
		if _, err := b.Stage(t.Context(), mail, strings.NewReader(w)); err != nil {
			t.Fatalf("Stage: %v", err)
		}
	}
	for _, p := range prepare(t, b, len(wire)) {
		tokens = append(tokens, p.Token)
	}
	return b, tokens
}

// commit calls Commit and checks that each message is reported once, as landed.
func commit(t *testing.T, b deliver.Batch, messages int) {
	t.Helper()
	landed := make(map[deliver.Ticket]int)
	err := b.Commit(t.Context(), func(r deliver.Receipt) error {
		landed[r.Ticket]++
		if r.Err != nil {
			t.Errorf("ticket %d: %v", r.Ticket, r.Err)
		}
		if r.Where == "" {
			t.Errorf("ticket %d landed nowhere", r.Ticket)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	for i := range messages {
		if n := landed[deliver.Ticket(i)]; n != 1 {
			t.Errorf("ticket %d was reported %d times", i, n)
		}
	}
	if len(landed) != messages {
		t.Errorf("%d messages landed, of %d", len(landed), messages)
	}
}

// put delivers messages in one batch.
func put(t *testing.T, sink deliver.Sink, wire ...string) {
	t.Helper()
	b := begin(t, sink)
	defer b.Abort()
	stage(t, b, wire...)
	prepare(t, b, len(wire))
	commit(t, b, len(wire))
}

func testPhases(t *testing.T, p *place) {
	sink := p.open(t)
	if a, b := sink.Profile(), sink.Profile(); a != b || a.Kind == "" || a.Target == "" {
		t.Errorf("Profile: %+v, then %+v", a, b)
	}
	p.want(t)
	for _, before := range [][]string{nil, {hello, again, third}} {
		b := begin(t, sink)
		for i, w := range []string{hello, again, third} {
			ticket, err := b.Stage(t.Context(), mail(fmt.Sprint(i)), strings.NewReader(w))
			if err != nil || int(ticket) != i {
				t.Fatalf("Stage %d = %d, %v", i, ticket, err)
			}
			p.want(t, before...)
		}
		prepare(t, b, 3)
		p.want(t, before...)
		commit(t, b, 3)
		after := append(before, hello, again, third)
		p.want(t, after...)
		if err := b.Abort(); err != nil {
			t.Errorf("Abort after Commit: %v", err)
		}
		p.want(t, after...)
	}
	if p.mem != nil {
		p.closed(t, sink)
		for fs := range p.mem.PowerCuts() {
			(&place{s: p.s, fs: fs, dir: p.dir}).want(t, hello, again, third, hello, again, third)
		}
	}
}

// closed closes the sink and checks that no file is left open.
func (p *place) closed(t *testing.T, sink deliver.Sink) {
	t.Helper()
	if err := sink.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if open := p.mem.OpenFiles(); len(open) > 0 {
		t.Errorf("still open: %q", open)
	}
}

func testEmptyBatch(t *testing.T, p *place) {
	b := begin(t, p.open(t))
	prepare(t, b, 0)
	commit(t, b, 0)
	p.want(t)
}

func testAbort(t *testing.T, p *place) {
	sink := p.open(t)
	put(t, sink, hello)
	clean := p.files()

	b := begin(t, sink)
	stage(t, b, again, third)
	if err := b.Abort(); err != nil {
		t.Errorf("Abort after Stage: %v", err)
	}
	if err := b.Abort(); err != nil {
		t.Errorf("Abort again: %v", err)
	}
	p.want(t, hello)
	if n := p.files(); n != clean {
		t.Errorf("Abort after Stage left %d files:\n%s", n-clean, p.mem.Tree())
	}

	b = begin(t, sink)
	stage(t, b, again, third)
	prepare(t, b, 2)
	if err := b.Abort(); err != nil {
		t.Errorf("Abort after Prepare: %v", err)
	}
	p.want(t, hello)
	// What was promised may wait for Sweep: the caller's journal may hold a
	// promise of which the caller believes that it was never written.
	if err := sink.Sweep(t.Context(), "work"); err != nil {
		t.Errorf("Sweep: %v", err)
	}
	if n := p.files(); n != clean {
		t.Errorf("Abort after Prepare left %d files:\n%s", n-clean, p.mem.Tree())
	}
	put(t, sink, again)
	p.want(t, hello, again)
}

func testBrokenBody(t *testing.T, p *place) {
	sink := p.open(t)
	b := begin(t, sink)
	defer b.Abort()
	stage(t, b, hello)
	staged := p.files()
	broken := errors.New("the line went dead")
	for _, cause := range []error{broken, io.ErrUnexpectedEOF} {
		for _, n := range []int{0, 5, len(again), 100_000} {
			body := io.MultiReader(strings.NewReader(strings.Repeat(again, n/len(again)+1)[:n]), iotest.ErrReader(cause))
			if _, err := b.Stage(t.Context(), mail("broken"), body); !errors.Is(err, cause) {
				t.Errorf("a body that breaks after %d octets: %v, want %v", n, err, cause)
			}
			if left := p.files() - staged; left != 0 {
				t.Errorf("a body that breaks after %d octets leaves %d files", n, left)
			}
		}
	}
	if ticket, err := b.Stage(t.Context(), mail("2"), strings.NewReader(third)); ticket != 1 || err != nil {
		t.Errorf("the next message: ticket %d, %v", ticket, err)
	}
	prepare(t, b, 2)
	commit(t, b, 2)
	p.want(t, hello, third)
}

func testLandedError(t *testing.T, p *place) {
	sink := p.open(t)
	b := begin(t, sink)
	stage(t, b, hello, again, third)
	promises := prepare(t, b, 3)
	stop := errors.New("the journal is full")
	reported := make(map[deliver.Ticket]bool)
	err := b.Commit(t.Context(), func(r deliver.Receipt) error {
		reported[r.Ticket] = true
		if len(reported) == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || len(reported) != 2 {
		t.Errorf("Commit = %v after %d reports, want %v after 2", err, len(reported), stop)
	}
	if err := b.Abort(); err != nil {
		t.Errorf("Abort: %v", err)
	}
	for _, promise := range promises {
		if v, err := sink.Settle(t.Context(), promise.Token); err != nil || reported[promise.Ticket] && v != deliver.Landed {
			t.Errorf("Settle %d = %v, %v", promise.Ticket, v, err)
		}
	}
	if sink.Profile().Guarantee == deliver.ExactlyOnce {
		put(t, sink, p.unsettled(t, sink, promises, hello, again, third)...)
		p.want(t, hello, again, third)
	}
}

func testContext(t *testing.T, p *place) {
	sink := p.open(t)
	put(t, sink, hello)
	clean := p.files()
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(op string, err error) {
		t.Helper()
		// From Stage, another error would be about the message.
		e, ok := errors.AsType[*deliver.Error](err)
		if !errors.Is(err, context.Canceled) || !ok || e.Fault != deliver.FaultTemporary {
			t.Errorf("%s with a dead context: %#v, want a *deliver.Error with FaultTemporary around it", op, err)
		}
	}
	_, err := sink.Begin(dead)
	check("Begin", err)

	b := begin(t, sink)
	_, err = b.Stage(dead, mail("1"), strings.NewReader(again))
	check("Stage", err)
	b.Abort()

	b = begin(t, sink)
	stage(t, b, again)
	_, err = b.Prepare(dead)
	check("Prepare", err)
	b.Abort()
	p.want(t, hello)
	if n := p.files(); n != clean {
		t.Errorf("%d files are left", n-clean)
	}

	b = begin(t, sink)
	stage(t, b, again)
	promises := prepare(t, b, 1)
	check("Commit", b.Commit(dead, func(deliver.Receipt) error {
		t.Error("Commit landed a message with a dead context")
		return nil
	}))
	p.want(t, hello)
	_, err = sink.Settle(dead, promises[0].Token)
	check("Settle", err)
	check("Sweep", sink.Sweep(dead, "work"))
}

func testClose(t *testing.T, p *place) {
	sink := p.open(t)
	b := begin(t, sink)
	stage(t, b, hello)
	prepare(t, b, 1)
	if err := sink.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	p.want(t)
	b.Abort()
	p.want(t)
}

func testConcurrent(t *testing.T, p *place) {
	sink := p.open(t)
	var wg sync.WaitGroup
	var want []string
	for worker := range 6 {
		var batches [][]string
		for i := range 3 {
			batch := []string{
				fmt.Sprintf("Subject: %d\r\n\r\nbatch %d\r\n", worker, i),
				fmt.Sprintf("Subject: %d\r\n\r\nbatch %d, second\r\n", worker, i),
			}
			batches = append(batches, batch)
			want = append(want, batch...)
		}
		wg.Go(func() {
			for _, batch := range batches {
				if err := deliverAll(t.Context(), sink, fmt.Sprint("worker", worker), batch); err != nil {
					t.Errorf("worker %d: %v", worker, err)
				}
			}
		})
	}
	wg.Wait()
	p.want(t, want...)
}

// deliverAll is put without a *testing.T, for goroutines other than the test's.
func deliverAll(ctx context.Context, sink deliver.Sink, account string, wire []string) error {
	b, err := sink.Begin(ctx)
	if err != nil {
		return err
	}
	defer b.Abort()
	for i, w := range wire {
		if _, err := b.Stage(ctx, deliver.Mail{Account: account, UID: fmt.Sprint(i)}, strings.NewReader(w)); err != nil {
			return err
		}
	}
	if _, err := b.Prepare(ctx); err != nil {
		return err
	}
	return b.Commit(ctx, func(r deliver.Receipt) error { return r.Err })
}
