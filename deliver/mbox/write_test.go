package mbox_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// put delivers messages of one account in one batch.
func put(t testing.TB, sink deliver.Sink, mail deliver.Mail, wire ...string) {
	t.Helper()
	if err := deliverAll(t.Context(), sink, mail, wire...); err != nil {
		t.Fatal(err)
	}
}

// deliverAll does the same for goroutines other than that of the test.
func deliverAll(ctx context.Context, sink deliver.Sink, mail deliver.Mail, wire ...string) error {
	b, err := sink.Begin(ctx)
	if err != nil {
		return err
	}
	defer b.Abort()
	for _, w := range wire {
		if _, err := b.Stage(ctx, mail, strings.NewReader(w)); err != nil {
			return err
		}
	}
	if _, err := b.Prepare(ctx); err != nil {
		return err
	}
	return b.Commit(ctx, func(r deliver.Receipt) error { return r.Err })
}

// memory returns a file system in memory with an empty directory /mail.
func memory(t testing.TB) *durabletest.FS {
	t.Helper()
	fsys := durabletest.New()
	if err := fsys.Mkdir("/mail", 0o700); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// openSink is open, which must succeed.
func openSink(t testing.TB, fsys durable.FS, dir string) deliver.Sink {
	t.Helper()
	sink, err := open(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// write replaces the content of a file, which it creates if it is missing.
func write(t testing.TB, fsys durable.FS, path, content string) {
	t.Helper()
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// The mbox is written byte for byte in mboxrd format.
func TestFormat(t *testing.T) {
	noon := deliver.Mail{
		Account: "work", Sender: "you@example.org",
		Arrived: time.Date(2006, 1, 2, 13, 4, 5, 0, time.FixedZone("", 3600)),
	}
	const head = "From you@example.org Mon Jan  2 12:04:05 2006\n"
	for _, tc := range []struct {
		name   string
		before string
		mail   deliver.Mail
		wire   []string
		want   string
	}{
		{name: "plain", mail: noon, wire: []string{"A: b\r\n\r\nc\r\n"}, want: head + "A: b\n\nc\n\n"},
		{name: "two", mail: noon, wire: []string{"A: b\r\n\r\n", "C: d\r\n"}, want: head + "A: b\n\n\n" + head + "C: d\n\n"},
		{name: "empty", mail: noon, wire: []string{""}, want: head + "\n"},
		{name: "one line end", mail: noon, wire: []string{"\r\n"}, want: head + "\n\n"},
		{name: "last line not ended", mail: noon, wire: []string{"\r\nx"}, want: head + "\nx\n\n"},
		{name: "ends in part of From", mail: noon, wire: []string{"\r\nFrom"}, want: head + "\nFrom\n\n"},
		{name: "ends in a bare CR", mail: noon, wire: []string{"x\r"}, want: head + "x\r\n\n"},
		{
			name: "quoting",
			mail: noon,
			wire: []string{"From a\r\n>From b\r\n>>>From c\r\n>>Fro\r\nFrom\r\n From d\r\nx From e\r\n>\r\n> From f\r\nfrom g\r\n>>"},
			want: head + ">From a\n>>From b\n>>>>From c\n>>Fro\nFrom\n From d\nx From e\n>\n> From f\nfrom g\n>>\n\n",
		},
		{name: "a bare LF begins a line", mail: noon, wire: []string{"x\nFrom a\r\n"}, want: head + "x\n>From a\n\n"},
		{name: "a bare CR does not", mail: noon, wire: []string{"x\rFrom a\r\n"}, want: head + "x\rFrom a\n\n"},
		{name: "any byte", mail: noon, wire: []string{"\x00\xff\x80\r\r\n"}, want: head + "\x00\xff\x80\r\n\n"},
		{name: "after another's", before: head + "\n", mail: noon, wire: []string{"x\r\n"}, want: head + "\n" + head + "x\n\n"},
		{name: "after one without its empty line", before: head + "a\n", mail: noon, wire: []string{"x\r\n"}, want: head + "a\n\n" + head + "x\n\n"},
		{name: "after one without a line end", before: head + "a", mail: noon, wire: []string{"x\r\n", ""}, want: head + "a\n\n" + head + "x\n\n" + head + "\n"},
		{
			name: "null sender",
			mail: deliver.Mail{Arrived: noon.Arrived},
			wire: []string{""},
			want: "From MAILER-DAEMON Mon Jan  2 12:04:05 2006\n\n",
		},
		{
			name: "a sender with blanks",
			mail: deliver.Mail{Sender: "\"a b\"@x", Arrived: noon.Arrived},
			wire: []string{""},
			want: "From MAILER-DAEMON Mon Jan  2 12:04:05 2006\n\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := memory(t)
			if tc.before != "" {
				write(t, fsys, "/mail/inbox", tc.before)
			}
			put(t, openSink(t, fsys, "/mail"), tc.mail, tc.wire...)
			got, err := readFile(fsys, "/mail/inbox")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("mbox (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMode(t *testing.T) {
	dir := t.TempDir()
	put(t, openSink(t, durable.OS, dir), deliver.Mail{}, "x")
	fi, err := os.Stat(filepath.Join(dir, "inbox"))
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", fi.Mode())
	}
}

// FuzzWriter checks that a reader gets back what was written, whatever the sizes of the reads.
func FuzzWriter(f *testing.F) {
	f.Add("From a\r\n>From b\r\n", "x\nFrom c", "you@example.org", uint8(3))
	f.Add("", "\r\n", "", uint8(1))
	f.Add(">>>From", "\r\r\n\x00\xff>", "a b", uint8(2))
	f.Fuzz(func(t *testing.T, first, second, sender string, size uint8) {
		fsys := memory(t)
		sink := openSink(t, fsys, "/mail")
		b, err := sink.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		var want []string
		for _, w := range []string{first, second} {
			body := &pieces{s: w, size: int(size)%7 + 1}
			if _, err := b.Stage(t.Context(), deliver.Mail{Sender: sender}, body); err != nil {
				t.Fatal(err)
			}
			want = append(want, canon(w))
		}
		if _, err := b.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(t.Context(), func(deliver.Receipt) error { return nil }); err != nil {
			t.Fatal(err)
		}
		got, err := read(fsys, "/mail")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

// pieces is a reader of s that returns at most size octets at a time.
type pieces struct {
	s    string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b[:min(p.size, len(b))], p.s)
	p.s = p.s[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
