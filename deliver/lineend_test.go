package deliver_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mailhaul/mailhaul/deliver"
)

func TestLFReader(t *testing.T) {
	for _, test := range [][2]string{
		{"", ""},
		{"a", "a"},
		{"\r\n", "\n"},
		{"\n", "\n"},
		{"\r", "\r"},
		{"\r\r\n", "\r\n"},
		{"\r\n\r\n", "\n\n"},
		{"\n\r", "\n\r"},
		{"a\r\nb\rc\nd\r\r\n\x00\xff\r\n\r", "a\nb\rc\nd\r\n\x00\xff\n\r"},
		{strings.Repeat("\r\n", 100), strings.Repeat("\n", 100)},
		{strings.Repeat("\r", 100), strings.Repeat("\r", 100)},
		{strings.Repeat("x\r\n", 100) + "end", strings.Repeat("x\n", 100) + "end"},
	} {
		wire, want := test[0], test[1]
		for name, chunks := range map[string]func(io.Reader) io.Reader{
			"whole":         func(r io.Reader) io.Reader { return r },
			"bytes":         iotest.OneByteReader,
			"halves":        iotest.HalfReader,
			"data with EOF": iotest.DataErrReader,
		} {
			if err := iotest.TestReader(deliver.LFReader(chunks(strings.NewReader(wire))), []byte(want)); err != nil {
				t.Errorf("%s of %q: %v", name, wire, err)
			}
			got, err := io.ReadAll(iotest.OneByteReader(deliver.LFReader(chunks(strings.NewReader(wire)))))
			if string(got) != want || err != nil {
				t.Errorf("%s of %q, read by the byte: %q, %v", name, wire, got, err)
			}
		}
	}
}

func TestLFReaderError(t *testing.T) {
	dead := errors.New("dead")
	r := deliver.LFReader(io.MultiReader(strings.NewReader("a\r\nb\r"), iotest.ErrReader(dead)))
	if got, err := io.ReadAll(r); string(got) != "a\nb\r" || err != dead {
		t.Errorf("%q, %v", got, err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || err != dead {
		t.Errorf("read again: %d, %v", n, err)
	}
}

func FuzzLFReader(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\n\r\r\n"), 3)
	f.Fuzz(func(t *testing.T, wire []byte, size int) {
		size = 1 + max(size, -size-1)%7
		var got bytes.Buffer
		r := deliver.LFReader(struct{ io.Reader }{iotest.HalfReader(bytes.NewReader(wire))})
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if want := bytes.ReplaceAll(wire, []byte("\r\n"), []byte("\n")); !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%q became %q, want %q", wire, got.Bytes(), want)
		}
	})
}

// Lines cost no allocation.
func TestLFReaderAllocs(t *testing.T) {
	wire := strings.NewReader(strings.Repeat("a line of some length\r\n", 10_000))
	p := make([]byte, 32<<10)
	if n := testing.AllocsPerRun(5, func() {
		wire.Seek(0, io.SeekStart)
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, deliver.LFReader(struct{ io.Reader }{wire}), p)
	}); n > 5 {
		t.Errorf("%v allocations for 10,000 lines", n)
	}
}

func BenchmarkLFReader(b *testing.B) {
	wire := strings.NewReader(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 10_000))
	p := make([]byte, 32<<10)
	b.SetBytes(wire.Size())
	b.ReportAllocs()
	for b.Loop() {
		wire.Seek(0, io.SeekStart)
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, deliver.LFReader(struct{ io.Reader }{wire}), p)
	}
}
