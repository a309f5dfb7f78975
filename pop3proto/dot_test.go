package pop3proto_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// stuff returns a body in wire form, with dots stuffed and the final dot (RFC 1939 §3). It
// adds a missing line end to the last line.
func stuff(body, eol string) string {
	if body != "" && !strings.HasSuffix(body, eol) {
		body += eol
	}
	var out strings.Builder
	for _, line := range strings.SplitAfter(body, eol) {
		if strings.HasPrefix(line, ".") {
			out.WriteByte('.')
		}
		out.WriteString(line)
	}
	return out.String() + "." + eol
}

var bodies = []string{
	"",
	"\r\n",
	"Subject: hi\r\n\r\nhello\r\n",
	".\r\n",
	".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
	"a\n.\nb\r\n", // a bare LF begins no line
	"a\n.\r\n+OK forged\r\nb\r\n",
	"a\r.\rb\r\r\n\r.\r\n",
	".\r.\r\n.\n.\r\n",
	"nul \x00, 8-bit \x80\xff\r\n",
	strings.Repeat(".", 300) + "\r\n",
	strings.Repeat("long ", 40_000) + "\r\n.\r\n",
}

func TestBodies(t *testing.T) {
	for i, body := range bodies {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c, _ := newClient(t, nil, "+OK\r\n"+stuff(body, "\r\n"), "+OK\r\n"+stuff("next\r\n", "\r\n"))
			got, err := retrieve(t.Context(), c, 2)
			if err != nil || len(got) != 2 || got[0] != body || got[1] != "next\r\n" {
				t.Errorf("got %.200q, %v; want %.200q", got, err, body)
			}
		})
	}
}

// TestBodySplit receives each reply in two reads, split at every byte, and byte by byte.
func TestBodySplit(t *testing.T) {
	for _, body := range bodies[:len(bodies)-1] {
		sent := "+OK here\r\n" + stuff(body, "\r\n")
		for i := range len(sent) {
			c, _ := newClient(t, nil, sent[:i], sent[i:])
			if got, err := retrieve(t.Context(), c, 1); err != nil || got[0] != body {
				t.Fatalf("%q split at %d: got %q, %v", sent, i, got, err)
			}
		}
		conn := &scriptConn{src: iotest.OneByteReader(strings.NewReader(greeting + sent))}
		c, err := pop3proto.NewClient(t.Context(), conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := retrieve(t.Context(), c, 1); err != nil || got[0] != body {
			t.Fatalf("%q byte by byte: got %q, %v", sent, got, err)
		}
	}
}

// TestBodyCut closes the connection after each byte of a reply, and checks that a truncated
// message is an error.
func TestBodyCut(t *testing.T) {
	for _, body := range bodies[:len(bodies)-1] {
		sent := "+OK here\r\n" + stuff(body, "\r\n")
		for i := range len(sent) {
			c, _ := newClient(t, nil, sent[:i])
			got, err := retrieve(t.Context(), c, 1)
			if len(got) != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q cut at %d: got %q, %v", sent, i, got, err)
			}
			wantBroken(t, c, err, io.ErrUnexpectedEOF)
		}
	}
}

// TestBodyWithoutLastCRLF has the bug of Exchange 2000: the final dot follows the last line
// without a CRLF. It does not end the body, so the client waits until its timeout.
func TestBodyWithoutLastCRLF(t *testing.T) {
	src := segments{greeting, "+OK\r\nlast line.\r\n"}
	conn := &scriptConn{src: &src, silent: true}
	c, err := pop3proto.NewClient(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := retrieve(t.Context(), c, 1)
	if len(got) != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v", got, err)
	}
	if got := err.Error(); got != "no answer from server for 60s" {
		t.Errorf("error text %q", got)
	}
	wantBroken(t, c, err, os.ErrDeadlineExceeded)
}

// TestServerWithLF has a server whose lines end in LF, which the client detects from the
// greeting. Line ends are not converted.
func TestServerWithLF(t *testing.T) {
	const body = "a\n.\nb\r\n.\r\n..\n\n"
	sent := "+OK\n" + stuff(body, "\n")
	for i := range len(sent) {
		src := segments{"+OK ready\n", sent[:i], sent[i:], "+ok\n" + stuff("x\n", "\n"), "+OK bye\n"}
		c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: &src}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := retrieve(t.Context(), c, 2)
		if err != nil || len(got) != 2 || got[0] != body || got[1] != "x\n" {
			t.Fatalf("split at %d: got %q, %v; want %q", i, got, err, body)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// chunkReader reads rest in reads of at most n bytes.
type chunkReader struct {
	rest []byte
	n    int
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// unstuff is a simple implementation of the dot reader: it returns the body at the
// beginning of b, or false if b does not contain its end.
func unstuff(b []byte) (body []byte, ok bool) {
	for {
		if bytes.HasPrefix(b, []byte(".\r\n")) {
			return body, true
		}
		b = bytes.TrimPrefix(b, []byte("."))
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok {
			return nil, false
		}
		body = append(append(body, line...), "\r\n"...)
		b = rest
	}
}

func FuzzDotReader(f *testing.F) {
	for _, body := range bodies[:len(bodies)-1] {
		f.Add([]byte(stuff(body, "\r\n")), 1)
		f.Add([]byte(body), 7)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size = max(1, size%4096)
		read := func(sent []byte) (body []byte, err error) {
			src := &chunkReader{append([]byte("+OK\r\n"), sent...), size}
			c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: io.MultiReader(strings.NewReader(greeting), src)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for m, err := range c.Retrieve(t.Context(), numberedEntries(1)) {
				if err != nil {
					return nil, err
				}
				body, err = io.ReadAll(m)
				return body, err
			}
			return nil, errors.New("no message")
		}

		want, complete := unstuff(data)
		got, err := read(data)
		if complete != (err == nil) || complete && !bytes.Equal(got, want) {
			t.Errorf("%q: got %q, %v; want %q, complete %v", data, got, err, want, complete)
		}

		line := string(data) + "\r\n"
		got, err = read([]byte(stuff(line, "\r\n")))
		if err != nil || string(got) != line {
			t.Errorf("stuffed %q: got %q, %v", line, got, err)
		}
	})
}

func BenchmarkRetrieve(b *testing.B) {
	for _, bench := range []struct{ name, line string }{
		{"lines", strings.Repeat("x", 72) + "\r\n"},
		{"dots", ".\r\n"},
		{"long", strings.Repeat("x", 1<<20) + "\r\n"},
	} {
		sent := "+OK\r\n" + stuff(strings.Repeat(bench.line, 4<<20/len(bench.line)), "\r\n")
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(sent)))
			b.ReportAllocs()
			replay := strings.NewReader("")
			c, err := pop3proto.NewClient(b.Context(), &scriptConn{src: io.MultiReader(strings.NewReader(greeting), endless{replay})}, nil)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				replay.Reset(sent)
				for m, err := range c.Retrieve(b.Context(), numberedEntries(1)) {
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, m); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// endless hides io.EOF from io.MultiReader, so that the reader can be reset.
type endless struct{ r *strings.Reader }

func (e endless) Read(p []byte) (int, error) { return e.r.Read(p) }
