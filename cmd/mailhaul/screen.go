package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"golang.org/x/term"
)

// screen draws lines that change at the bottom of a terminal, and lets others
// write above them. It is the mpb.ConsoleWriter of the bars.
//
// The cursor waits below the lines and is never hidden, so that a program that
// is killed leaves nothing behind but them. Who makes the window narrower
// than the lines may find pieces of them above: terminals do not agree on
// whether they are wrapped, and what is certain to be ours alone is erased.
type screen struct {
	out io.Writer

	mu    sync.Mutex
	next  bytes.Buffer // the lines to come
	frame []byte       // the lines that are drawn
	lines int          // how many those are
	done  bool
}

// Write takes in text of the lines to come.
func (s *screen) Write(p []byte) (int, error) { return s.next.Write(p) }

// ReadFrom takes in text of the lines to come.
func (s *screen) ReadFrom(r io.Reader) (int64, error) { return s.next.ReadFrom(r) }

// IsTerminal always returns true: who does not want the lines makes no screen.
func (s *screen) IsTerminal() bool { return true }

// GetTermSize returns how many columns and lines there are to draw in. The
// last row of the window is the cursor's.
func (s *screen) GetTermSize() (width, height int, err error) {
	if f := fileOf(s.out); f != nil {
		width, height, err = term.GetSize(int(f.Fd()))
	}
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	return width, height - 1, nil
}

// Flush draws the lines that were taken in, in place of the last. They are
// counted here: mpb gets it wrong when there are more bars than rows.
func (s *screen) Flush(int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.next.Reset()
	if s.done {
		return nil
	}
	erase := s.erase()
	s.frame, s.lines = append(s.frame[:0], s.next.Bytes()...), bytes.Count(s.next.Bytes(), []byte("\n"))
	_, err := s.out.Write(append(erase, s.frame...))
	return err
}

// erase returns what erases the lines that are drawn (CUU and ED, ECMA-48
// §8.3.22 and §8.3.39), and the echo of keys that were pressed since.
func (s *screen) erase() []byte {
	if s.lines == 0 {
		return nil
	}
	return fmt.Appendf(nil, "\r\x1b[%dA\x1b[J", s.lines)
}

// close erases the lines and draws no more.
func (s *screen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.out.Write(s.erase())
	}
	s.done, s.lines = true, 0
}

// above returns a writer whose text goes to w, above the lines.
func (s *screen) above(w io.Writer) io.Writer { return &aboveLines{s, w} }

type aboveLines struct {
	screen *screen
	w      io.Writer
}

// Write writes whole lines.
func (a *aboveLines) Write(p []byte) (int, error) {
	s := a.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == 0 {
		return a.w.Write(p)
	}
	s.out.Write(s.erase())
	n, err := a.w.Write(p)
	s.out.Write(s.frame)
	return n, err
}
