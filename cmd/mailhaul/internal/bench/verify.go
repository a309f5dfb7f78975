package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// sum is a checksum of a message's content.
type sum [sha256.Size]byte

// sumOf returns the sum of a message. Line ends do not count, nor do header fields that a
// fetcher has added at the top, nor blank lines at the end.
func sumOf(text []byte) sum {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if i := bytes.Index(text, []byte(firstField)); i > 0 && text[i-1] == '\n' {
		text = text[i:]
	}
	return sha256.Sum256(bytes.TrimRight(text, "\n"))
}

// verifyMaildir checks that a Maildir holds every wanted message once, and nothing else.
// If dotStuffed is set, its files are dot-stuffed, as those of the drain are.
func verifyMaildir(maildir string, want []sum, dotStuffed bool) error {
	missing := map[sum]int{}
	for _, s := range want {
		missing[s]++
	}
	lost, unexpected := len(want), 0
	files, err := filepath.Glob(filepath.Join(maildir, "[cn][ue][rw]", "*")) // cur and new
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if dotStuffed {
			text = bytes.ReplaceAll(text, []byte("\n.."), []byte("\n."))
		}
		if s := sumOf(text); missing[s] > 0 {
			missing[s]--
			lost--
		} else {
			unexpected++
		}
	}
	if lost > 0 || unexpected > 0 {
		return fmt.Errorf("of %d messages %d are not there as they were sent; %d of %d files are something else", len(want), lost, unexpected, len(files))
	}
	return nil
}
