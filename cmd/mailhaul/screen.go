package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"golang.org/x/term"
)

// screen draws lines that change at the bottom of a terminal, and lets other writers
// write above them. It is the mpb.ConsoleWriter of the progress bars.
//
// The cursor stays below the lines and is never hidden, so that a program that is killed
// leaves a usable terminal. If the window is made narrower than the lines, pieces of them
// may remain above: terminals differ in whether they rewrap lines, and screen erases only
// rows that it certainly drew.
type screen struct {
	out io.Writer

	mu      sync.Mutex
	pending bytes.Buffer // the next lines to draw
	drawn   []byte       // the lines on the terminal
	lines   int          // the number of lines in drawn
	closed  bool
}

// Write adds text to the next lines.
func (s *screen) Write(p []byte) (int, error) { return s.pending.Write(p) }

// ReadFrom adds text to the next lines.
func (s *screen) ReadFrom(r io.Reader) (int64, error) { return s.pending.ReadFrom(r) }

// IsTerminal returns true: a screen is made only where bars are wanted.
func (s *screen) IsTerminal() bool { return true }

// GetTermSize returns the columns and rows that are free for lines. The last row of the
// window is the cursor's.
func (s *screen) GetTermSize() (width, height int, err error) {
	if f := underlyingFile(s.out); f != nil {
		width, height, err = term.GetSize(int(f.Fd()))
	}
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	return width, height - 1, nil
}

// Flush draws the next lines in place of the last. It ignores the number of lines that
// mpb passes, which is wrong when there are more bars than rows.
func (s *screen) Flush(int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.pending.Reset()
	if s.closed {
		return nil
	}
	erase := s.erase()
	s.drawn, s.lines = append(s.drawn[:0], s.pending.Bytes()...), bytes.Count(s.pending.Bytes(), []byte("\n"))
	_, err := s.out.Write(append(erase, s.drawn...))
	return err
}

// erase returns the sequence that erases the lines, and the echo of keys pressed since
// they were drawn (CUU and ED, ECMA-48 §8.3.22 and §8.3.39).
func (s *screen) erase() []byte {
	if s.lines == 0 {
		return nil
	}
	return fmt.Appendf(nil, "\r\x1b[%dA\x1b[J", s.lines)
}

// close erases the lines. Nothing is drawn after it.
func (s *screen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.out.Write(s.erase())
	}
	s.closed, s.lines = true, 0
}

// writerAbove returns a writer that writes to w above the lines.
func (s *screen) writerAbove(w io.Writer) io.Writer { return &aboveLines{s, w} }

// aboveLines is the writer that screen.writerAbove returns.
type aboveLines struct {
	screen *screen
	w      io.Writer
}

// Write writes p, which must be whole lines.
func (a *aboveLines) Write(p []byte) (int, error) {
	s := a.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == 0 {
		return a.w.Write(p)
	}
	s.out.Write(s.erase())
	n, err := a.w.Write(p)
	s.out.Write(s.drawn)
	return n, err
}
