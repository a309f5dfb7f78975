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

// wantsProgress says whether a fetch is to draw bars on standard error.
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

// progress draws a bar for each account that is being polled, and passes on
// what is to be said of them to a reporter that writes above the bars.
type progress struct {
	to     reporter
	screen *screen
	paint  func(colour, text string) string
	bars   *mpb.Progress

	mu       sync.Mutex // never held while mpb is called, which calls back
	accounts int        // how many are to be polled
	done     int        // how many were
	hauls    map[string]*haul
	past     tally // what those have brought
	speed    speed
}

// haul is how far the poll of an account has come.
type haul struct {
	bar   *mpb.Bar
	meter *fetch.Meter
	stage string // what is being done, empty while messages come in
	whole tally  // what has come, and what is still planned
	speed speed
}

// tally is a number of messages and their octets.
type tally struct{ messages, octets int64 }

func (t tally) plus(o tally) tally { return tally{t.messages + o.messages, t.octets + o.octets} }

// came returns what has come in.
func (h *haul) came() tally { return tally{h.meter.Messages(), h.meter.Octets()} }

// newProgress draws bars for a number of accounts. Of only one there is no
// total.
func newProgress(to reporter, screen *screen, paint func(colour, text string) string, accounts int) *progress {
	p := &progress{to: to, screen: screen, paint: paint, accounts: accounts, hauls: map[string]*haul{}}
	p.bars = mpb.New(mpb.WithConsoleWriter(screen), mpb.WithAutoRefresh())
	if accounts > 1 {
		p.bars.Add(0, nil, mpb.BarPriority(math.MaxInt), mpb.BarFillerTrim(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.sum(time.Now()) })))
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
		p.start(e)
	case fetch.Connected:
		p.change(e.Account, func(h *haul) { h.stage = "logging in" })
	case fetch.LoggedIn:
		p.change(e.Account, func(h *haul) { h.stage = "listing" })
	case fetch.Planned:
		p.change(e.Account, func(h *haul) { h.plan(e) })
	case fetch.Finished:
		p.finish(e.Account)
	}
	p.to.observe(e)
}

func (p *progress) start(e fetch.Started) {
	h := &haul{meter: e.Meter, stage: "connecting"}
	column := func(f func(*haul, time.Time) string, c int) decor.Decorator {
		return decor.Any(func(decor.Statistics) string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return f(h, time.Now())
		}, decor.WC{C: c})
	}
	const mostName = 20
	name := runewidth.Truncate(clean(e.Account), mostName, "…")
	// An error says that the bars are gone, as when the terminal is.
	h.bar, _ = p.bars.Add(0, p.filler(h), mpb.BarWidth(20), mpb.BarFillerTrim(),
		mpb.PrependDecorators(column(func(*haul, time.Time) string { return name }, decor.DSyncWidthR)),
		mpb.AppendDecorators(
			column((*haul).count, decor.DSyncSpace),
			column((*haul).size, decor.DSyncSpace),
			column((*haul).rate, decor.DSyncSpace),
			column((*haul).left, decor.DSyncSpace),
		))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hauls[e.Account] = h
}

// change changes what is known of an account that is being polled.
func (p *progress) change(account string, f func(*haul)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.hauls[account]; h != nil {
		f(h)
	}
}

func (p *progress) finish(account string) {
	p.mu.Lock()
	h := p.hauls[account]
	delete(p.hauls, account)
	p.done++
	if h != nil {
		p.past = p.past.plus(h.came())
	}
	p.mu.Unlock()
	if h != nil && h.bar != nil {
		h.bar.Abort(true)
	}
}

// plan takes in what a session is about to do.
func (h *haul) plan(e fetch.Planned) {
	h.whole = h.came().plus(tally{int64(e.Fetch + e.More), e.FetchOctets + e.MoreOctets})
	h.stage = ""
	if e.Fetch+e.More == 0 {
		h.stage = "finishing"
		if e.Delete > 0 {
			h.stage = "deleting"
		}
	}
}

// sum is the line of all accounts.
func (p *progress) sum(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	came, whole := p.past, p.past
	for _, h := range p.hauls {
		came, whole = came.plus(h.came()), whole.plus(h.whole)
	}
	line := []string{fmt.Sprintf("%d of %s done", p.done, count(p.accounts, "account"))}
	if whole.messages > 0 {
		line = append(line, ofMessages(came, whole)+" messages", ofOctets(came, whole))
	}
	p.speed.measure(came.octets, now)
	for _, more := range []string{p.speed.String(), p.speed.left(whole.octets - came.octets)} {
		if more != "" {
			line = append(line, more)
		}
	}
	return strings.Join(line, ", ")
}

// filler draws the bar of an account, or in its place what is being done.
func (p *progress) filler(h *haul) mpb.BarFiller {
	colour := func(c string) func(string) string { return func(s string) string { return p.paint(c, s) } }
	bar := mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─").
		FillerMeta(colour(green)).TipMeta(colour(green)).Build()
	spinner := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	frame := 0
	return mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		p.mu.Lock()
		stage := h.stage
		came := h.came()
		s.Current, s.Total = min(came.octets, h.whole.octets), h.whole.octets
		if stage == "" && came.messages >= h.whole.messages {
			stage = "finishing"
		}
		p.mu.Unlock()
		if s.AvailableWidth < 2 {
			return nil
		}
		io.WriteString(w, " ")
		s.AvailableWidth--
		if stage == "" {
			return bar.Fill(w, s)
		}
		frame++
		text := string(spinner[frame%len(spinner)]) + " " + stage
		_, err := io.WriteString(w, runewidth.Truncate(text, s.AvailableWidth, ""))
		return err
	})
}

// The columns of an account. Without a plan there is nothing in them.

func (h *haul) count(time.Time) string {
	if h.whole.messages == 0 {
		return ""
	}
	return ofMessages(h.came(), h.whole)
}

func (h *haul) size(time.Time) string {
	if h.whole.messages == 0 {
		return ""
	}
	return ofOctets(h.came(), h.whole)
}

func (h *haul) rate(now time.Time) string {
	if h.whole.messages == 0 {
		return ""
	}
	h.speed.measure(h.came().octets, now)
	return h.speed.String()
}

func (h *haul) left(time.Time) string { return h.speed.left(h.whole.octets - h.came().octets) }

// ofMessages and ofOctets say how much of the whole has come in. What had to
// be fetched again, and what a server said too little of, makes the whole no
// smaller than that.

func ofMessages(came, whole tally) string {
	return fmt.Sprintf("%d/%d", came.messages, max(whole.messages, came.messages))
}

func ofOctets(came, whole tally) string {
	return size(came.octets) + " of " + size(max(whole.octets, came.octets))
}
