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

// deliverAll is put for other goroutines than the test's.
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

// memory returns an empty file system with the directory of the sinks.
func memory(t testing.TB) *durabletest.FS {
	t.Helper()
	fsys := durabletest.New()
	if err := fsys.Mkdir("/mail", 0o700); err != nil {
		t.Fatal(err)
	}
	return fsys
}

func openSink(t testing.TB, fsys durable.FS, dir string) deliver.Sink {
	t.Helper()
	sink, err := open(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

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

func TestGolden(t *testing.T) {
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
		{"plain", "", noon, []string{"A: b\r\n\r\nc\r\n"}, head + "A: b\n\nc\n\n"},
		{"two", "", noon, []string{"A: b\r\n\r\n", "C: d\r\n"}, head + "A: b\n\n\n" + head + "C: d\n\n"},
		{"empty", "", noon, []string{""}, head + "\n"},
		{"one line end", "", noon, []string{"\r\n"}, head + "\n\n"},
		{"last line not ended", "", noon, []string{"\r\nx"}, head + "\nx\n\n"},
		{"ends in part of From", "", noon, []string{"\r\nFrom"}, head + "\nFrom\n\n"},
		{"ends in a bare CR", "", noon, []string{"x\r"}, head + "x\r\n\n"},
		{
			"quoting", "", noon,
			[]string{"From a\r\n>From b\r\n>>>From c\r\n>>Fro\r\nFrom\r\n From d\r\nx From e\r\n>\r\n> From f\r\nfrom g\r\n>>"},
			head + ">From a\n>>From b\n>>>>From c\n>>Fro\nFrom\n From d\nx From e\n>\n> From f\nfrom g\n>>\n\n",
		},
		{"a bare LF begins a line", "", noon, []string{"x\nFrom a\r\n"}, head + "x\n>From a\n\n"},
		{"a bare CR does not", "", noon, []string{"x\rFrom a\r\n"}, head + "x\rFrom a\n\n"},
		{"any byte", "", noon, []string{"\x00\xff\x80\r\r\n"}, head + "\x00\xff\x80\r\n\n"},
		{"after another's", head + "\n", noon, []string{"x\r\n"}, head + "\n" + head + "x\n\n"},
		{"after one without its empty line", head + "a\n", noon, []string{"x\r\n"}, head + "a\n\n" + head + "x\n\n"},
		{"after one without a line end", head + "a", noon, []string{"x\r\n", ""}, head + "a\n\n" + head + "x\n\n" + head + "\n"},
		{
			"null sender", "", deliver.Mail{Arrived: noon.Arrived}, []string{""},
			"From MAILER-DAEMON Mon Jan  2 12:04:05 2006\n\n",
		},
		{
			"a sender with blanks", "", deliver.Mail{Sender: "\"a b\"@x", Arrived: noon.Arrived}, []string{""},
			"From MAILER-DAEMON Mon Jan  2 12:04:05 2006\n\n",
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

// FuzzWriter checks that a reader gets back what was written, in whatever
// pieces it came.
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

// pieces reads a string a few octets at a time.
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
