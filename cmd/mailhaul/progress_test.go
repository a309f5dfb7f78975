package main

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// bench is a configuration and the server of its accounts.
type bench struct {
	t      *testing.T
	home   string
	server *pop3test.Server
	// resume lets a reply go on that holdHalfway has stopped.
	resume chan struct{}
}

// newBench configures accounts of those names, all with the same options.
func newBench(t *testing.T, options string, accounts ...string) *bench {
	t.Helper()
	b := &bench{t: t, server: pop3test.New(pop3test.Options{}), resume: make(chan struct{})}
	if err := b.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.server.Close() })
	var config strings.Builder
	fmt.Fprintf(&config, "state: state\nparallel: 8\nper_host: 8\nsinks: { home: { maildir: Maildir } }\n")
	fmt.Fprintf(&config, "defaults: { server: %q, tls: none, password_env: PASSWORD%s }\naccounts:\n", b.server.Addr(), options)
	for _, name := range accounts {
		fmt.Fprintf(&config, "  %s: { user: %q }\n", name, name)
		b.server.Account(name, password)
	}
	b.home = filepath.Dir(configFile(t, "%s", &config))
	return b
}

// add puts a message of about that size into a maildrop.
func (b *bench) add(account string, octets int) {
	m := b.server.Account(account, password)
	text := strings.Repeat(strings.Repeat("x", 78)+"\n", octets/80)
	m.Add(fmt.Sprintf("%s-%d", account, len(m.Messages())), []byte("Subject: test\n\n"+text))
}

// command is mailhaul with these arguments, which know nothing of the config.
func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), "mailhaul", append(args, "--config", filepath.Join(b.home, "config.yaml"))...)
	cmd.Env = []string{"HOME=" + b.home, "PASSWORD=" + password}
	return cmd
}

// holdHalfway sends half of the message with that unique-id, and the rest
// after a receive from resume.
func (b *bench) holdHalfway(uid string) {
	b.server.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		x.Act()
		reply, _ := io.ReadAll(x.Reply)
		half := string(reply[:len(reply)/2])
		x.Reply = io.MultiReader(strings.NewReader(half), &waiting{x, b.resume}, strings.NewReader(string(reply[len(half):])))
	}).UID(uid))
}

// waiting is an empty reader that waits.
type waiting struct {
	x     *pop3test.Exchange
	until chan struct{}
}

func (w *waiting) Read([]byte) (int, error) {
	w.x.Wait(w.until)
	return 0, io.EOF
}

// awaitLines waits until the lines of the screen match the expressions.
func awaitLines(term *ttytest.Terminal, want ...string) {
	expr := "^" + strings.Join(want, "\n") + "$"
	term.AwaitFunc("a match of "+expr, regexp.MustCompile(expr).MatchString)
}

// expectEnd waits for the end, and then only what was reported is there, with
// the cursor below it.
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

// One account: it connects, a large message moves the bar while it comes in,
// and in the end there is the line of the account alone.
func TestProgress(t *testing.T) {
	b := newBench(t, "", "work")
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

// Finished accounts go above the bars of the others, with their hints, and a
// total is below.
func TestProgressSeveral(t *testing.T) {
	b := newBench(t, "", "a", "broken", "日本")
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

// Of many accounts only those that are polled are shown, and never more than
// the window holds.
func TestProgressMany(t *testing.T) {
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("account-%03d", i))
	}
	b := newBench(t, "", names...)
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

// A window of any size is good enough.
func TestProgressResize(t *testing.T) {
	b := newBench(t, "", "work", "home")
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

// ^C leaves the bars, and no trace of itself.
func TestProgressInterrupt(t *testing.T) {
	b := newBench(t, ", pipelining: off", "work")
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

// What is no terminal, or a simple one, gets lines of text alone.
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
			b := newBench(t, "", "work")
			b.add("work", 300)
			b.holdHalfway("work-0")
			cmd := b.command(append([]string{"fetch"}, test.args...)...)
			cmd.Env = append(cmd.Env, test.env)
			errs := &signalled{want: "\x1b[1A", seen: make(chan struct{})}
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

// signalled tells when a text was written.
type signalled struct {
	want string
	text strings.Builder
	seen chan struct{}
}

func (s *signalled) Write(p []byte) (int, error) {
	before := strings.Contains(s.text.String(), s.want)
	n, err := s.text.Write(p)
	if !before && strings.Contains(s.text.String(), s.want) {
		close(s.seen)
	}
	return n, err
}

func (s *signalled) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.seen:
	case <-time.After(testDeadline):
		t.Fatalf("%q was not written", s.want)
	}
}
