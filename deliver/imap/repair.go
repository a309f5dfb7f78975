package imap

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// headLen is how many octets at the beginning of a message Settle compares, in addition to
// the size. They have all Received fields of nearly every message.
const headLen = 16 << 10

// repairer writes a message in the form that an IMAP literal can contain, as the doc of the
// package says. It keeps what Settle needs to recognise the message.
type repairer struct {
	w    *bufio.Writer // errors stay until Flush
	cr   bool          // the last octet was a CR
	size int64         // octets that were written
	head []byte        // the first headLen of them
}

// Write writes p to w, repaired.
func (r *repairer) Write(p []byte) (int, error) {
	start := 0
	for i, c := range p {
		switch {
		case c == 0:
			r.write(p[start:i])
			r.write([]byte{0x80})
			start = i + 1
		case c == '\n' && !r.cr:
			r.write(p[start:i])
			r.write([]byte{'\r'})
			start = i
		}
		r.cr = c == '\r'
	}
	r.write(p[start:])
	return len(p), nil
}

// Finish ends the message and returns the error of w.
func (r *repairer) Finish() error {
	if r.size == 0 {
		r.write([]byte("\r\n"))
	}
	return r.w.Flush()
}

// write writes p to w, unchanged.
func (r *repairer) write(p []byte) {
	r.size += int64(len(p))
	r.head = append(r.head, p[:min(len(p), headLen-len(r.head))]...)
	_, _ = r.w.Write(p)
}

// digest returns the SHA-256 of text in hexadecimal.
func digest[T string | []byte](text T) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// messageID returns the Message-ID of a message, or "" if it has none or one that is not
// safe in a SEARCH command.
func messageID(head []byte) string {
	header, _, _ := strings.Cut(string(head), "\r\n\r\n")
	header = strings.ReplaceAll(header, "\r\n ", " ")
	for line := range strings.SplitSeq(strings.ReplaceAll(header, "\r\n\t", " "), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "Message-ID") {
			continue
		}
		id := strings.TrimSpace(value)
		sane := len(id) <= 250 && strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") &&
			!strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
		if sane {
			return id
		}
		return ""
	}
	return ""
}
