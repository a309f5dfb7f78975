package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// awaitLines waits until the lines of the screen match these expressions.
func awaitLines(term *ttytest.Terminal, want ...string) {
	expr := "^" + strings.Join(want, "\n") + "$"
	term.AwaitFunc("a match of "+expr, regexp.MustCompile(expr).MatchString)
}

// expectEnd waits for the end of the program. It fails the test unless the screen then has
// only these lines, with the cursor below them.
func expectEnd(t *testing.T, term *ttytest.Terminal, code int, want ...string) {
	t.Helper()
	if got := term.Exit(); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	if expr := "^" + strings.Join(want, "\n") + "$"; !regexp.MustCompile(expr).MatchString(term.Screen()) {
		t.Errorf("in the end there is\n%s\nwant\n%s", term.Screen(), expr)
	}
	column, row, visible := term.Cursor()
	if column != 0 || row != strings.Count(term.Screen(), "\n")+1 || !visible {
		t.Errorf("the cursor is at %d, %d, visible %v", column, row, visible)
	}
}

const (
	spinner = `[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] `
	fetched = `: 1 new message \(\d+ B\) → ~/Maildir; 1 deleted, 0 kept`
)

// With one account, the bar shows that it connects, and moves while a large message comes
// in. In the end there is only the line of the account.
func TestProgress(t *testing.T) {
	b := newTestServer(t, "", "work")
	b.add("work", 400)
	b.add("work", 1<<20)
	greet := make(chan struct{})
	b.server.Order(pop3test.Hold(pop3test.Greeting, greet))
	b.holdHalfway("work-1")
	term := ttytest.Start(t, b.command("fetch"), 80, 10)
	awaitLines(term, `work `+spinner+`connecting`)
	greet <- struct{}{}
	awaitLines(term, `work ━{9,10}─{10,11} 1/2 5\d\d kB of 1\.0 MB.*`)
	b.resume <- struct{}{}
	expectEnd(t, term, 0, `work: 2 new messages \(1\.0 MB\) → ~/Maildir; 2 deleted, 0 kept`)
	if !strings.Contains(term.Output(), "\x1b[32m━") {
		t.Error("the bar has no colour")
	}
}

// With several accounts, the lines of those that are done, with their hints, stand above
// the bars of the others, and a total below.
func TestProgressSeveral(t *testing.T) {
	b := newTestServer(t, "", "a", "broken", "日本")
	b.add("a", 300)
	b.add("日本", 100_000)
	b.server.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no").When(func(x *pop3test.Exchange) bool { return x.Args == "broken" }))
	b.holdHalfway("日本-0")
	term := ttytest.Start(t, b.command("fetch"), 200, 12)
	done := []string{`a: +1 new message .* 0 kept`, `broken: FAILED: .*`, `  hint: .*`}
	either := `(` + strings.Join(done, "\n") + `|` + strings.Join([]string{done[1], done[2], done[0]}, "\n") + `)`
	awaitLines(term, either, `日本 ━+─+ 0/1 4\d kB of 9\d kB.*`, `2 of 3 accounts done, 1/2 messages, 4\d kB of 9\d kB.*`)
	b.resume <- struct{}{}
	expectEnd(t, term, 77, either, `日本: +1 new message .* 0 kept`, `3 accounts, 2 new messages \(9\d kB\), 1 failed`)
}

// With many accounts, only those that are polled have a bar, and never more than the
// window holds.
func TestProgressMany(t *testing.T) {
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("account-%03d", i))
	}
	b := newTestServer(t, "", names...)
	for _, name := range names {
		b.add(name, 100)
	}
	b.server.Order(pop3test.Hold("RETR", b.resume))
	term := ttytest.Start(t, b.command("fetch"), 80, 24)
	bar := `account-\d{3} ─{20} 0/1 0 B of 9\d B`
	awaitLines(term, strings.Repeat(bar+"\n", 8)+`0 of 200 accounts done, 0/8 messages, 0 B of 7\d\d B`)
	term.Resize(80, 5)
	awaitLines(term, `[^\n]*(\n[^\n]*){0,3}0 of 200 accounts done, 0/8 messages, 0 B of 7\d\d B`)
	close(b.resume)
	if code := term.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(term.History(), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "200 accounts, 200 new messages") {
		t.Errorf("the last line is %q", last)
	}
	times := map[string]int{}
	for _, line := range lines {
		if strings.Contains(line, "1 new message ") {
			times[line]++
		}
	}
	if len(times) != len(names) {
		t.Errorf("reported are\n%s", term.History())
	}
	for _, name := range names {
		if got := times[name+": 1 new message (97 B) → ~/Maildir; 1 deleted, 0 kept"]; got != 1 {
			t.Errorf("%s is reported %d times", name, got)
		}
	}
}

// The window may get any size meanwhile.
func TestProgressResize(t *testing.T) {
	b := newTestServer(t, "", "work", "home")
	b.add("work", 300)
	b.add("home", 300)
	b.holdHalfway("work-0")
	term := ttytest.Start(t, b.command("fetch"), 80, 10)
	awaitLines(term, `home`+fetched, `work ━+─+ 0/1 .*`, `1 of 2 accounts done, .*`)
	term.Resize(20, 10)
	awaitLines(term, `home: 1 new message`, `work 0/1 .*`, `1 of 2 accounts don…`)
	term.Resize(20, 2)
	awaitLines(term, `1 of 2 accounts don…`)
	term.Resize(3, 1)
	awaitLines(term, ``)
	term.Resize(80, 10)
	term.Await("1 of 2 accounts done, ")
	b.resume <- struct{}{}
	if code := term.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := term.Screen(); !regexp.MustCompile(`work` + fetched + "\n" + `2 accounts, 2 new messages \(\d+ B\)$`).MatchString(got) {
		t.Errorf("in the end there is\n%s", got)
	}
}

// ^C is not shown, and the bars stay until the batch is finished or the second ^C.
func TestProgressInterrupt(t *testing.T) {
	b := newTestServer(t, ", pipelining: off", "work")
	b.add("work", 300)
	b.add("work", 300)
	b.holdHalfway("work-0")
	term := ttytest.Start(t, b.command("fetch"), 80, 10)
	awaitLines(term, `work ━+─+ 0/2 .*`)
	term.Type("\x03")
	const note = `mailhaul: finishing the batch; press \^C again to hang up`
	awaitLines(term, note, `work ━+─+ 0/2 .*`)
	b.resume <- struct{}{}
	expectEnd(t, term, 75, note, `work: 1 new message .*; 1 deleted, 0 kept, 1 not fetched yet`)

	b.add("work", 300)
	b.holdHalfway("work-2")
	b.holdHalfway("work-1")
	term = ttytest.Start(t, b.command("fetch"), 80, 10)
	awaitLines(term, `work ━+─+ 0/2 .*`)
	term.Type("\x03")
	awaitLines(term, note, `work ━+─+ 0/2 .*`)
	term.Type("\x03")
	expectEnd(t, term, 75, note, `work: FAILED: .*`)
}

// Where there is no terminal, or only a simple one, the output is plain lines of text.
func TestProgressWhen(t *testing.T) {
	colours := regexp.MustCompile(`\x1b\[[\d;]*m`)
	for name, test := range map[string]struct {
		args  []string
		env   string
		piped bool
		bars  bool
	}{
		"terminal":     {bars: true},
		"never":        {args: []string{"--progress", "never"}},
		"no colour":    {env: "NO_COLOR=1", bars: true},
		"dumb":         {env: "TERM=dumb"},
		"quiet":        {args: []string{"-q"}},
		"json":         {args: []string{"--log-format", "json"}},
		"piped":        {piped: true},
		"always piped": {args: []string{"--progress", "always"}, piped: true, bars: true},
		"always dumb":  {args: []string{"--progress=always"}, env: "TERM=dumb", bars: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestServer(t, "", "work")
			b.add("work", 300)
			b.holdHalfway("work-0")
			cmd := b.command(append([]string{"fetch"}, test.args...)...)
			cmd.Env = append(cmd.Env, test.env)
			errs := &awaitWriter{want: "\x1b[1A", seen: make(chan struct{})}
			if test.piped {
				cmd.Stderr = errs
			}
			term := ttytest.Start(t, cmd, 80, 10)
			switch {
			case !test.bars:
			case test.piped:
				errs.await(t)
			default:
				term.Await("0/1")
			}
			b.resume <- struct{}{}
			if code := term.Exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			out := term.Output() + errs.text.String()
			if !test.bars && strings.Contains(out, "\x1b") {
				t.Errorf("not only text: %q", out)
			}
			if test.env == "" && !test.piped {
				return
			}
			if colours.MatchString(out) {
				t.Errorf("there is colour: %q", out)
			}
		})
	}
}

// awaitWriter is a writer that closes seen once want was written.
type awaitWriter struct {
	want string
	text strings.Builder
	seen chan struct{}
}

func (s *awaitWriter) Write(p []byte) (int, error) {
	before := strings.Contains(s.text.String(), s.want)
	n, err := s.text.Write(p)
	if !before && strings.Contains(s.text.String(), s.want) {
		close(s.seen)
	}
	return n, err
}

func (s *awaitWriter) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.seen:
	case <-time.After(testDeadline):
		t.Fatalf("%q was not written", s.want)
	}
}
