package main

import (
	"bytes"
	"crypto/sha256"
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

// mail is a message that lies in the pool, from where maildrops are filled.
type message struct {
	file        string // its path in the pool, stored with LF
	maildirName string // for a Maildir: with ,S= and ,W=, so that no server need look inside
	sum         sum
	size        int64
}

// sum tells contents apart, line ends aside.
type sum [sha256.Size]byte

// sizes says how large messages are.
type sizeFunc func(*rand.Rand) int

// lognormal is what mailboxes look like: half of the messages are below 8 KB,
// a few make up most of the octets; none is above 2 MB. The mean is 41 KB.
func lognormal(r *rand.Rand) int {
	const median, sigma = 8 << 10, 1.84
	return int(min(max(median*math.Exp(sigma*r.NormFloat64()), 700), 2<<20))
}

// exactly is one size for all.
func fixedSize(n int) sizeFunc { return func(*rand.Rand) int { return n } }

// writePool makes n messages, the same ones each time, and puts them into dir.
func writePool(dir string, n int, size sizeFunc, owner int) ([]message, error) {
	lines, err := realLines()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(8, 1939)) // STD 53
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

// corpus returns the lines of real messages that any mail system can carry.
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

func isASCII(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c >= 0x80 || c < ' ' && c != '\n' && c != '\t' })
}

// firstField begins the first line of every message that we make. What a
// fetcher puts above it is not ours.
const firstField = "Received: from mx.bench.example by pop.bench.example with ESMTPS id "

// compose makes a message of about the size given: text, and above 48 KB an
// attachment, as real mail of that size is.
func composeMessage(r *rand.Rand, lines []string, i, size int) []byte {
	const asText = 48 << 10
	date := time.Unix(1_700_000_000+int64(i)*60, 0).UTC().Format(time.RFC1123Z)
	var b bytes.Buffer
	b.Grow(size + 512)
	fmt.Fprintf(&b, "%sM%06d;\n\t%s\n", firstField, i, date)
	fmt.Fprintf(&b, "Date: %s\nFrom: Ann Other %d <ann%d@bench.example>\nTo: you@bench.example\n", date, i%97, i%97)
	fmt.Fprintf(&b, "Subject: %s\nMessage-ID: <%d.%08x@bench.example>\nMIME-Version: 1.0\n",
		subject(lines[r.IntN(len(lines))]), i, r.Uint32())
	if size <= asText {
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

// subject makes a subject of a line. It is short: a fetcher that folds long
// header fields anew must not be taken for one that damages mail.
func subject(line string) string {
	return strings.TrimSpace("Re: " + strings.TrimSpace(line[:min(len(line), 50)]))
}

// prose writes runs of real lines until b has the size.
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

// sumOf returns the sum of a message, from its first own line on: what a
// fetcher added above does not count, nor do line ends.
func sumOf(text []byte) sum {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if i := bytes.Index(text, []byte(firstField)); i > 0 && text[i-1] == '\n' {
		text = text[i:]
	}
	return sha256.Sum256(bytes.TrimRight(text, "\n"))
}

// verify sees that a Maildir holds every message once, and nothing else. The
// files of the drain are stuffed: they have their dots as they came.
func verifyMaildir(maildir string, want []sum, dotStuffed bool) error {
	left := map[sum]int{}
	for _, s := range want {
		left[s]++
	}
	lost, strange, seen := len(want), 0, 0
	files, err := filepath.Glob(filepath.Join(maildir, "[cn][ue][rw]", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		seen++
		if dotStuffed {
			text = bytes.ReplaceAll(text, []byte("\n.."), []byte("\n."))
		}
		if s := sumOf(text); left[s] > 0 {
			left[s]--
			lost--
		} else {
			strange++
		}
	}
	if lost > 0 || strange > 0 {
		return fmt.Errorf("of %d messages %d are not there as they were sent; %d of %d files are something else", len(want), lost, strange, seen)
	}
	return nil
}
