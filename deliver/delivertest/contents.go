package delivertest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// contents returns messages in wire form that are hard to handle, by name.
func contents() map[string]string {
	random := rand.New(rand.NewPCG(1, 1))
	binary := make([]byte, 70_000)
	for i := range binary {
		binary[i] = byte(random.Uint32())
	}
	return map[string]string{
		"ordinary":         hello,
		"empty":            "",
		"a line end":       "\r\n",
		"a bare LF":        "\n",
		"a bare CR":        "\r",
		"header only":      "Subject: no body\r\nFrom: me\r\n",
		"header and blank": "Subject: no body\r\n\r\n",
		"no header":        "\r\nonly a body\r\n",
		"not a header":     "this is not a header\r\nnor this\r\n",
		"no final newline": "Subject: x\r\n\r\nthe end",
		"final CR":         "Subject: x\r\n\r\nthe end\r",
		"final LF":         "Subject: x\r\n\r\nthe end\n",
		"blank lines":      "Subject: x\r\n\r\n\r\n\r\nx\r\n\r\n\r\n\r\n",
		"8-bit":            "Subject: \xe4\xf6\xfc\r\n\r\n\x80\x81\xfe\xff \u00e4\r\n",
		"NUL":              "Subject: a\x00b\r\n\r\n\x00\x00\r\n\x00",
		"bare LF":          "Subject: x\ny: z\n\nbody\n\r\n\n\r\nend\r\n",
		"bare CR":          "Subject: x\r\ry\r\n\r\nbody\rbody\r\r\n\r\r\r\nend\r\n",
		"From_ lines":      "From me\r\n\r\nFrom you Mon Jan  1 00:00:00 2024\r\n>From x\r\n>>From y\r\nFrom\r\n From z\r\n\r\nFrom a\nFrom b\rFrom c\r\nFrom ",
		"first From_":      "From you Mon Jan  1 00:00:00 2024\r\nSubject: x\r\n\r\nx\r\n",
		"quoted From_":     ">From you\r\n>>From you\r\n\r\n>>>From you\r\n> From\r\n>",
		"dot lines":        "Subject: x\r\n\r\n.\r\n..\r\n.x\r\n\n.\n+OK 5\r\n.",
		"long line":        "Subject: x\r\n\r\n" + strings.Repeat("x", 5<<20) + "\r\n",
		"long header":      "Subject: " + strings.Repeat("x\r\n ", 50_000) + "\r\n\r\nbody\r\n",
		"many lines":       "Subject: x\r\n\r\n" + strings.Repeat("\r\n", 70_000),
		"From_ at borders": "Subject: x\r\n\r\n" + strings.Repeat("From x\r\n\nFrom\r\n", 10_000),
		"binary":           string(binary),
		"twice CRLF binary": strings.ReplaceAll(string(binary), "\x00", "\r\n") +
			strings.ReplaceAll(string(binary), "\x01", "\r"),
	}
}

func testContents(t *testing.T, p *place) {
	sink := p.open(t)
	var all []string
	for name, wire := range contents() {
		put(t, sink, wire)
		all = append(all, wire)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	p.want(t, all...)

	b := begin(t, sink) // once more, all in one batch
	stage(t, b, all...)
	prepare(t, b, len(all))
	commit(t, b, len(all))
	p.want(t, append(all, all...)...)
}

// A reader may return one octet at a time, and io.EOF together with the last octets.
func testSmallReads(t *testing.T, p *place) {
	sink := p.open(t)
	b := begin(t, sink)
	var want []string
	for _, name := range []string{"bare CR", "bare LF", "final CR", "From_ lines", "quoted From_", "dot lines", "empty"} {
		wire := contents()[name]
		for _, body := range []io.Reader{
			iotest.OneByteReader(strings.NewReader(wire)),
			iotest.DataErrReader(strings.NewReader(wire)),
			iotest.DataErrReader(iotest.HalfReader(strings.NewReader(wire))),
		} {
			if _, err := b.Stage(t.Context(), mail(name), body); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want = append(want, wire)
		}
	}
	prepare(t, b, len(want))
	commit(t, b, len(want))
	p.want(t, want...)
}

// A unique-id may contain any bytes, and must never be part of a path.
func testUIDs(t *testing.T, p *place) {
	sink := p.open(t)
	b := begin(t, sink)
	var want []string
	for i, uid := range []string{
		"", " ", ".", "..", "/", "../../../../etc/passwd", "a/b", "a b", "a:2,S", "\x80\xff", "~", "-rf",
		strings.Repeat("x", 5000), "same", "same", `"quoted"`, `\`, "%s%n", "\x01\x02\t",
	} {
		w := fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i)
		m := mail(uid)
		m.Account, m.User, m.Sender = "../a b:"+uid, "me/../"+uid, uid
		if strings.ContainsFunc(uid, func(r rune) bool { return r < ' ' }) {
			m.Sender = ""
		}
		if _, err := b.Stage(t.Context(), m, strings.NewReader(w)); err != nil {
			t.Fatalf("UID %.20q: %v", uid, err)
		}
		want = append(want, w)
	}
	prepare(t, b, len(want))
	commit(t, b, len(want))
	p.want(t, want...)
}
