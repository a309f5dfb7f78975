package modeltest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// world is all that outlives a process.
type world struct {
	disk         *durabletest.FS
	journal      *journal
	drop         []int    // the messages on the server
	taken        []string // the messages that their owner has moved elsewhere
	foreign      int      // how many messages another program has delivered
	now          time.Time
	createdFiles []created // in the order of creation
	history      []string  // what has happened
}

// created is the unique part of the name of a file.
type created struct {
	name string
	at   time.Time
}

// fork returns a copy of the world for another process.
func (w *world) fork() *world {
	v := *w
	v.disk, v.journal = w.disk.Fork(), w.journal.clone()
	v.drop, v.taken, v.createdFiles = slices.Clone(w.drop), slices.Clone(w.taken), slices.Clip(w.createdFiles)
	v.history = slices.Clip(w.history)
	return &v
}

// logf adds an event to the history.
func (w *world) logf(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

// key tells worlds apart by everything but the random parts of file names and the history.
func (w *world) key() [sha256.Size]byte {
	var b strings.Builder
	b.WriteString(w.disk.Tree())
	for _, line := range w.disk.Unsynced() {
		fmt.Fprintln(&b, line)
	}
	for disk := range w.disk.Fork().PowerCuts() {
		b.WriteString(disk.Tree()) // the first one has lost the most
		break
	}
	fmt.Fprintln(&b, w.journal.durable, len(w.journal.loose), w.journal.now(), w.journal.written())
	fmt.Fprintln(&b, w.drop, w.taken, w.foreign)
	var names []string
	for _, f := range w.createdFiles {
		if strings.Contains(b.String(), f.name) {
			names = append(names, f.name, fmt.Sprintf("<%d %v>", len(names), w.now.Sub(f.at)))
		}
	}
	lines := strings.Split(strings.NewReplacer(names...).Replace(b.String()), "\n")
	slices.Sort(lines)
	return sha256.Sum256([]byte(strings.Join(lines, "\n")))
}

// crashes returns the worlds that a kill and a power cut now may leave.
func (w *world) crashes(step string) []*world {
	var all []*world
	for _, j := range w.journal.crashes(false) {
		v := w.fork()
		v.journal = j
		v.logf("killed before %s", step)
		all = append(all, v)
	}
	seen := map[string]bool{}
	for disk := range w.disk.Fork().PowerCuts() {
		if tree := disk.Tree(); seen[tree] {
			continue
		} else {
			seen[tree] = true
		}
		for _, j := range w.journal.crashes(true) {
			v := w.fork()
			v.disk, v.journal = disk.Fork(), j.clone()
			v.logf("power cut before %s, leaving\n%s", step, indent(disk.Tree()))
			all = append(all, v)
		}
	}
	return all
}

func indent(s string) string {
	return "\t" + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n\t")
}

// done reports whether nothing is left to do.
func (w *world) done() bool { return len(w.drop) == 0 && len(w.journal.now().open) == 0 }

// check returns an error unless every message is there, for the mail reader or already
// taken by the owner, whole and at most once, and at the end exactly once.
func (w *world) check(p *sinkKind, messages int, end bool) error {
	visible, err := p.read(w.disk)
	if err == errLocked && !end {
		return nil // a mail reader has to wait
	}
	if err != nil {
		return fmt.Errorf("a reader cannot read: %w", err)
	}
	count := map[string]int{}
	for _, m := range append(visible, w.taken...) {
		count[m]++
	}
	for i := range messages {
		m := asRead(wire(i))
		if n := count[m]; n > 1 || end && n == 0 {
			return fmt.Errorf("message %d is there %d times", i, n)
		}
		delete(count, m)
	}
	if n := count[foreignMail]; n != w.foreign {
		return fmt.Errorf("of %d messages of another program %d are there", w.foreign, n)
	}
	delete(count, foreignMail)
	for m := range count {
		return fmt.Errorf("a message that nobody sent: %q", m)
	}
	if end && !w.done() {
		return fmt.Errorf("not done: %d on the server, open: %v", len(w.drop), w.journal.now().open)
	}
	return nil
}

// asRead returns a message in wire form as a mail reader sees it.
func asRead(wire string) string { return strings.ReplaceAll(wire, "\r\n", "\n") }

// foreignMail is the message that another program delivers.
const foreignMail = "Subject: other\n\nother\n"
