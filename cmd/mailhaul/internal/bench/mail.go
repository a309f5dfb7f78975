package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/testdata"
)

// message is a message of the pool, from which the maildrops are filled.
type message struct {
	file        string // in the pool; its lines end in LF
	maildirName string // in maildrops; it has the sizes (,S= and ,W=), so that Dovecot does not have to read the file
	sum         sum
	size        int64 // of file
}

// sizeFunc returns the size of the next message.
type sizeFunc func(*rand.Rand) int

// lognormal returns sizes as they are in real mailboxes: half of the messages are below
// 8 KiB, and a few large ones, of 2 MiB at most, make up most of the bytes. The mean is
// 41 KB.
func lognormal(r *rand.Rand) int {
	const median, sigma = 8 << 10, 1.84
	return int(min(max(median*math.Exp(sigma*r.NormFloat64()), 700), 2<<20))
}

// fixedSize gives all messages the same size.
func fixedSize(n int) sizeFunc { return func(*rand.Rand) int { return n } }

// writePool composes n messages and writes them to dir. They are the same each time.
func writePool(dir string, n int, size sizeFunc, owner int) ([]message, error) {
	lines, err := realLines()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(8, 1939)) // any constants will do
	pool := make([]message, 0, n)
	for i := range n {
		text := composeMessage(r, lines, i, size(r))
		m := message{
			file:        filepath.Join(dir, fmt.Sprint(i)),
			maildirName: fmt.Sprintf("%d.M%dP1.bench,S=%d,W=%d:2,", 1_700_000_000+i, i, len(text), len(text)+bytes.Count(text, []byte("\n"))),
			sum:         sumOf(text),
			size:        int64(len(text)),
		}
		if err := os.WriteFile(m.file, text, 0o600); err != nil {
			return nil, err
		}
		if err := chownTo(m.file, owner); err != nil {
			return nil, err
		}
		pool = append(pool, m)
	}
	return pool, nil
}

// realLines returns lines of real messages. They are short and ASCII, so that no fetcher
// has a reason to change them.
func realLines() ([]string, error) {
	var lines []string
	names, err := fs.Glob(testdata.Messages, "messages/*ham*.eml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := testdata.Messages.ReadFile(name)
		if err != nil {
			return nil, err
		}
		_, body, _ := strings.Cut(string(text), "\n\n")
		for line := range strings.Lines(body) {
			if len(line) < 200 && isASCII(line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) < 100 {
		return nil, fmt.Errorf("only %d lines of real mail in testdata/messages", len(lines))
	}
	return lines, nil
}

// isASCII reports whether a line has only printable ASCII characters and tabs.
func isASCII(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c >= 0x80 || c < ' ' && c != '\n' && c != '\t' })
}

// firstField begins the first line of every message, so that sumOf finds it below the
// fields that a fetcher adds.
const firstField = "Received: from mx.bench.example by pop.bench.example with ESMTPS id "

// composeMessage returns message i, of about the given size. A large one is a little text
// with an attachment, as in real mail.
func composeMessage(r *rand.Rand, lines []string, i, size int) []byte {
	const maxText = 48 << 10
	date := time.Unix(1_700_000_000+int64(i)*60, 0).UTC().Format(time.RFC1123Z)
	var b bytes.Buffer
	b.Grow(size + 512)
	fmt.Fprintf(&b, "%sM%06d;\n\t%s\n", firstField, i, date)
	fmt.Fprintf(&b, "Date: %s\nFrom: Ann Other %d <ann%d@bench.example>\nTo: you@bench.example\n", date, i%97, i%97)
	fmt.Fprintf(&b, "Subject: %s\nMessage-ID: <%d.%08x@bench.example>\nMIME-Version: 1.0\n",
		subject(lines[r.IntN(len(lines))]), i, r.Uint32())
	if size <= maxText {
		b.WriteString("Content-Type: text/plain; charset=us-ascii\n\n")
		writeProse(&b, r, lines, size)
		return b.Bytes()
	}
	b.WriteString("Content-Type: multipart/mixed; boundary=\"=-bench\"\n\n--=-bench\nContent-Type: text/plain; charset=us-ascii\n\n")
	writeProse(&b, r, lines, b.Len()+2<<10)
	b.WriteString("\n--=-bench\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n")
	var raw [57]byte // 76 characters a line (RFC 2045 §6.8)
	for b.Len() < size {
		for j := range raw {
			raw[j] = byte(r.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw[:]))
		b.WriteByte('\n')
	}
	b.WriteString("--=-bench--\n")
	return b.Bytes()
}

// subject makes a subject of a line. It is short, since some fetchers fold long header
// fields again, which would count as damage.
func subject(line string) string {
	return strings.TrimSpace("Re: " + strings.TrimSpace(line[:min(len(line), 50)]))
}

// writeProse writes pieces of real mail to b until b has the size.
func writeProse(b *bytes.Buffer, r *rand.Rand, lines []string, size int) {
	for b.Len() < size {
		at := r.IntN(len(lines))
		for _, line := range lines[at:min(at+40, len(lines))] {
			if b.WriteString(line); b.Len() >= size {
				break
			}
		}
	}
}
