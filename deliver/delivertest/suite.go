// Package delivertest is the test suite that every sink must pass. Run checks a sink
// against the contract of package deliver (contract.go, contents.go, settle.go).
// RunCrash (crash.go) fails each operation on the file system, kills the process
// before it and cuts the power, and counts how often each message arrives.
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

// Suite describes the sink under test. In its functions, fs is a durabletest.FS or
// durable.OS, and dir is a directory that all sinks of a test share, empty at first.
type Suite struct {
	// Open creates a sink as a new process would.
	Open func(fs durable.FS, dir string) (deliver.Sink, error)
	// Read returns the messages that a mail reader finds, in any order. Lines end in
	// LF, and the documented changes of the sink are undone.
	Read func(fs durable.FS, dir string) ([]string, error)
	// Canon returns what Read returns for a message that was given in wire form. If
	// it is nil, CRLF becomes LF and nothing else changes.
	Canon func(wire string) string

	// Take, if it is not nil, moves all messages elsewhere, durably, as the owner of
	// the mailbox may do, and returns them as Read does. Such a sink must not deliver
	// these messages again.
	Take func(fs durable.FS, dir string) ([]string, error)
	// Torn says that after a crash a reader may see part of a message, until Settle
	// has completed it.
	Torn bool
	// Broken are deliberate defects of the sink. RunCrash must find each of them.
	Broken []Broken
}

// Broken is a deliberate defect.
type Broken struct {
	Name string
	// Op is a hook for durabletest.FS.OnOp that causes the defect, such as
	// durabletest.Skip of a sync. The directory of the sinks is /mail.
	Op func(durabletest.Op) error
}

// Run checks the sink against the contract of package deliver, once on the file system
// of the operating system and once on one in memory.
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
			t.Cleanup(func() { // runs after the cleanups that close the sinks
				if open := p.mem.OpenFiles(); len(open) > 0 {
					t.Errorf("still open: %q", open)
				}
			})
			test.run(t, p)
		})
	}
}

// root is the directory of the sinks in memory.
const root = "/mail"

// place is the directory of one test.
type place struct {
	s   Suite
	fs  durable.FS
	dir string
	mem *durabletest.FS // nil on the disk
}

// open opens another sink in the directory. It is closed when the test ends.
func (p *place) open(t *testing.T) deliver.Sink {
	t.Helper()
	sink, err := p.s.Open(p.fs, p.dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { sink.Close() })
	return sink
}

// kill ends the process to which all sinks so far belong. On the disk it does nothing.
func (p *place) kill() {
	if p.mem != nil {
		p.mem = p.mem.Kill()
		p.fs = p.mem
	}
}

// want checks that a mail reader finds these messages, given in wire form.
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

// files counts the files of the directory, those of the staging area included. On the
// disk it returns 0, so that comparisons of two counts succeed there.
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

// clip shortens a message for the text of a failure.
func clip(s string) string {
	if len(s) > 200 {
		return s[:100] + "…" + s[len(s)-100:]
	}
	return s
}
