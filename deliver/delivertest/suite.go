// Package delivertest is the suite that every sink must pass. Run holds a sink
// to the contract of package deliver; RunCrash kills it, fails it and cuts the
// power at every operation, and counts what arrives.
package delivertest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// Suite tells the suite how to reach a sink. fs is a durabletest.FS or
// durable.OS, and dir an empty directory that all sinks of a test share.
type Suite struct {
	// Open makes a sink as a new process would.
	Open func(fs durable.FS, dir string) (deliver.Sink, error)
	// Read returns the messages that a mail reader finds, in any order, with
	// the sink's documented changes undone and LF as line end.
	Read func(fs durable.FS, dir string) ([]string, error)
	// Canon returns what Read makes of a message in wire form. If it is nil,
	// CRLF becomes LF and nothing else is changed.
	Canon func(wire string) string

	// Take, if it is not nil, has the mailbox's owner move all messages
	// elsewhere, durably, and returns them as Read does. A sink that has it
	// must not deliver again what its owner took.
	Take func(fs durable.FS, dir string) ([]string, error)
	// Torn says that a crash may leave part of a message where a reader sees
	// it, until Settle has put that right.
	Torn bool
	// Broken are ways to get the sink wrong. RunCrash must find each of them.
	Broken []Broken
}

// Broken gets a sink wrong on purpose.
type Broken struct {
	Name string
	// Op is a hook for durabletest.FS.OnOp, such as durabletest.Skip of what the
	// broken sink leaves out. The sinks are in /mail.
	Op func(durabletest.Op) error
}

// Run checks the sink against the contract, on the operating system's file
// system and on one in memory.
func Run(t *testing.T, s Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *place)
	}{
		{"Phases", testPhases},
		{"Contents", testContents},
		{"UIDs", testUIDs},
		{"EmptyBatch", testEmptyBatch},
		{"Abort", testAbort},
		{"BrokenBody", testBrokenBody},
		{"SmallReads", testSmallReads},
		{"LandedError", testLandedError},
		{"Context", testContext},
		{"Close", testClose},
		{"Concurrent", testConcurrent},
		{"SettleAfterCommit", testSettleAfterCommit},
		{"SettleAfterKill", testSettleAfterKill},
		{"SettleForeignToken", testSettleForeignToken},
		{"Sweep", testSweep},
	} {
		t.Run(test.name+"/disk", func(t *testing.T) {
			test.run(t, &place{s: s, fs: durable.OS, dir: t.TempDir()})
		})
		t.Run(test.name+"/memory", func(t *testing.T) {
			fs := durabletest.New()
			p := &place{s: s, fs: fs, dir: root, mem: fs}
			if err := fs.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := fs.SyncDir("/"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { // after those that close the sinks
				if open := p.mem.OpenFiles(); len(open) > 0 {
					t.Errorf("still open: %q", open)
				}
			})
			test.run(t, p)
		})
	}
}

// root is where the sinks are in memory.
const root = "/mail"

// place is where the sinks of one test are.
type place struct {
	s   Suite
	fs  durable.FS
	dir string
	mem *durabletest.FS // nil on the disk
}

// open opens another sink over the place. It is closed when the test ends.
func (p *place) open(t *testing.T) deliver.Sink {
	t.Helper()
	sink, err := p.s.Open(p.fs, p.dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { sink.Close() })
	return sink
}

// kill ends the process that all sinks so far belong to. On the disk it can
// only be forgotten.
func (p *place) kill() {
	if p.mem != nil {
		p.mem = p.mem.Kill()
		p.fs = p.mem
	}
}

// want checks what a mail reader sees, given in wire form.
func (p *place) want(t *testing.T, wire ...string) {
	t.Helper()
	got, err := p.s.Read(p.fs, p.dir)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	want := make([]string, len(wire))
	for i, w := range wire {
		want[i] = p.s.canon(w)
	}
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return
	}
	for i := range got {
		got[i] = clip(got[i])
	}
	for i := range want {
		want[i] = clip(want[i])
	}
	t.Fatalf("messages differ (-want +got):\n%s", cmp.Diff(want, got))
}

// files counts the files of the place, staging area and all; 0 on the disk,
// where a test compares it with another 0.
func (p *place) files() int {
	if p.mem == nil {
		return 0
	}
	return strings.Count(p.mem.Tree(), "\n")
}

func (s Suite) canon(wire string) string {
	if s.Canon == nil {
		return strings.ReplaceAll(wire, "\r\n", "\n")
	}
	return s.Canon(wire)
}

// clip keeps a failure readable.
func clip(s string) string {
	if len(s) > 200 {
		return s[:100] + "…" + s[len(s)-100:]
	}
	return s
}
