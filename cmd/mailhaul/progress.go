package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/mailhaul/mailhaul/fetch"
)

// wantsProgress reports whether a fetch draws progress bars on standard error.
func wantsProgress(std stdio, o fetchOptions) (bool, error) {
	switch o.progress {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		return isTerminal(std.err) && os.Getenv("TERM") != "dumb" && !o.quiet && o.logFormat != "json", nil
	}
	return false, usagef("write one of auto, always, never", "--progress %q is not known", o.progress)
}

// progress is a reporter that draws a bar for each poll under way, and passes events on
// to a reporter that writes above the bars.
type progress struct {
	to     reporter
	screen *screen
	paint  paintFunc
	bars   *mpb.Progress

	// mu must not be held during a call of mpb, which calls the decorators and fillers
	// from its own goroutine.
	mu       sync.Mutex
	accounts int // to be polled
	ended    int // polls that have ended
	polls    map[string]*pollBar
	received amount // by the polls that have ended
	speed    speed
}

// pollBar is the bar of a poll. progress.mu protects it.
type pollBar struct {
	bar      *mpb.Bar
	meter    *fetch.Meter
	activity string // shown in place of the bar; empty while messages come in
	expected amount // what was received, and what is still planned
	speed    speed
}

// amount is a number of messages and of their octets.
type amount struct{ messages, octets int64 }

func (a amount) plus(o amount) amount { return amount{a.messages + o.messages, a.octets + o.octets} }

// newProgress draws bars for a number of accounts, and a line for all of them if there
// are several.
func newProgress(to reporter, s *screen, paint paintFunc, accounts int) *progress {
	p := &progress{to: to, screen: s, paint: paint, accounts: accounts, polls: map[string]*pollBar{}}
	p.bars = mpb.New(mpb.WithConsoleWriter(s), mpb.WithAutoRefresh())
	if accounts > 1 {
		p.bars.Add(0, nil, mpb.BarPriority(math.MaxInt), mpb.BarFillerTrim(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.summaryLine(time.Now()) })))
	}
	return p
}

func (p *progress) note(text string) { p.to.note(text) }
func (p *progress) warn(text string) { p.to.warn(text) }

func (p *progress) total(all []fetch.Summary) {
	p.screen.close()
	p.bars.Shutdown()
	p.to.total(all)
}

func (p *progress) observe(e fetch.Event) {
	switch e := e.(type) {
	case fetch.Started:
		p.startPoll(e)
	case fetch.Connected:
		p.updatePoll(e.Account, func(b *pollBar) { b.activity = "logging in" })
	case fetch.LoggedIn:
		p.updatePoll(e.Account, func(b *pollBar) { b.activity = "listing" })
	case fetch.Planned:
		p.updatePoll(e.Account, func(b *pollBar) { b.setPlan(e) })
	case fetch.Finished:
		p.endPoll(e.Account)
	}
	p.to.observe(e)
}

func (p *progress) startPoll(e fetch.Started) {
	b := &pollBar{meter: e.Meter, activity: "connecting"}
	const maxName = 20
	name := runewidth.Truncate(clean(e.Account), maxName, "…")
	// A column is empty until there is a plan.
	barColumn := func(text func() string) decor.Decorator {
		return decor.Any(func(decor.Statistics) string {
			p.mu.Lock()
			defer p.mu.Unlock()
			if b.expected.messages == 0 {
				return ""
			}
			return text()
		}, decor.WCSyncSpace)
	}
	// Add fails only once the bars are shut down, as when the terminal is gone.
	b.bar, _ = p.bars.Add(0, p.filler(b), mpb.BarWidth(20), mpb.BarFillerTrim(),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncWidthR)),
		mpb.AppendDecorators(
			barColumn(func() string { return messagesOf(b.received(), b.expected) }),
			barColumn(func() string { return octetsOf(b.received(), b.expected) }),
			barColumn(func() string {
				b.speed.measure(b.received().octets, time.Now())
				return b.speed.String()
			}),
			barColumn(func() string { return b.speed.timeLeft(b.expected.octets - b.received().octets) }),
		))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls[e.Account] = b
}

// updatePoll calls update with the bar of an account's poll, if there is one.
func (p *progress) updatePoll(account string, update func(*pollBar)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.polls[account]; b != nil {
		update(b)
	}
}

func (p *progress) endPoll(account string) {
	p.mu.Lock()
	b := p.polls[account]
	delete(p.polls, account)
	p.ended++
	if b != nil {
		p.received = p.received.plus(b.received())
	}
	p.mu.Unlock()
	if b != nil && b.bar != nil {
		b.bar.Abort(true)
	}
}

// summaryLine returns the line for all accounts.
func (p *progress) summaryLine(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	received, expected := p.received, p.received
	for _, b := range p.polls {
		received, expected = received.plus(b.received()), expected.plus(b.expected)
	}
	parts := []string{fmt.Sprintf("%d of %s done", p.ended, count(p.accounts, "account"))}
	if expected.messages > 0 {
		parts = append(parts, messagesOf(received, expected)+" messages", octetsOf(received, expected))
	}
	p.speed.measure(received.octets, now)
	for _, part := range []string{p.speed.String(), p.speed.timeLeft(expected.octets - received.octets)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

// filler returns what draws the bar of a poll or, in its place, a spinner and what the
// poll is doing.
func (p *progress) filler(b *pollBar) mpb.BarFiller {
	colour := func(c string) func(string) string { return func(s string) string { return p.paint(c, s) } }
	bar := mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─").
		FillerMeta(colour(green)).TipMeta(colour(green)).Build()
	spinner := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	frame := 0
	return mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		p.mu.Lock()
		activity := b.activity
		received := b.received()
		s.Current, s.Total = min(received.octets, b.expected.octets), b.expected.octets
		if activity == "" && received.messages >= b.expected.messages {
			activity = "finishing"
		}
		p.mu.Unlock()
		if s.AvailableWidth < 2 {
			return nil
		}
		io.WriteString(w, " ")
		s.AvailableWidth--
		if activity == "" {
			return bar.Fill(w, s)
		}
		frame++
		text := string(spinner[frame%len(spinner)]) + " " + activity
		_, err := io.WriteString(w, runewidth.Truncate(text, s.AvailableWidth, ""))
		return err
	})
}

// received returns what the poll has received so far.
func (b *pollBar) received() amount { return amount{b.meter.Messages(), b.meter.Octets()} }

// setPlan records what a session of the poll is about to do.
func (b *pollBar) setPlan(e fetch.Planned) {
	b.expected = b.received().plus(amount{int64(e.Fetch + e.More), e.FetchOctets + e.MoreOctets})
	b.activity = ""
	if e.Fetch+e.More == 0 {
		b.activity = "finishing"
		if e.Delete > 0 {
			b.activity = "deleting"
		}
	}
}

// messagesOf and octetsOf say how much of what was expected has been received. More than
// that may come: messages that are fetched again, and those larger than the server said.

func messagesOf(received, expected amount) string {
	return fmt.Sprintf("%d/%d", received.messages, max(expected.messages, received.messages))
}

func octetsOf(received, expected amount) string {
	return size(received.octets) + " of " + size(max(expected.octets, received.octets))
}
