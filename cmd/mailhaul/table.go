package main

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// columnsOf returns how wide lines for w may be: as wide as the window if it
// is a terminal, else 80 columns.
func columnsOf(w io.Writer) int {
	if f := fileOf(w); f != nil {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// column is one of a table. Unless most is 0, its cells are cut at that width.
type column struct {
	title   string
	right   bool // numbers
	most    int
	colours []string // of its cells, row by row; nil is none
}

// writeTable writes rows of cells below the titles of their columns, each
// column as wide as its widest cell. After each row comes the line that below,
// unless it is nil, returns for it; "" is none.
func writeTable(out io.Writer, columns []column, rows [][]string, below func(row int) string) {
	width := widths(columns, rows)
	paint := painter(isTerminal(out))
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	write := func(n int, cells []string) {
		var line strings.Builder
		for i, text := range cells {
			text = runewidth.Truncate(text, width[i], "…")
			pad := strings.Repeat(" ", width[i]-runewidth.StringWidth(text))
			if colours := columns[i].colours; colours != nil && n >= 0 {
				text = paint(colours[n], text)
			}
			switch {
			case columns[i].right:
				text = pad + text
			case i < len(cells)-1:
				text += pad
			}
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(text)
		}
		io.WriteString(out, strings.TrimRight(line.String(), " ")+"\n")
	}
	write(-1, titles) // which have no colour
	for n, row := range rows {
		write(n, row)
		if below != nil {
			if line := below(n); line != "" {
				io.WriteString(out, line+"\n")
			}
		}
	}
}

// widths returns how wide the columns of a table are.
func widths(columns []column, rows [][]string) []int {
	width := make([]int, len(columns))
	for i, c := range columns {
		width[i] = runewidth.StringWidth(c.title)
		for _, row := range rows {
			width[i] = max(width[i], runewidth.StringWidth(row[i]))
		}
		if c.most > 0 {
			width[i] = min(width[i], c.most)
		}
	}
	return width
}

// rest returns how many of the columns of a line are left by cells of those
// widths, with two blanks before each other cell.
func rest(line int, widths ...int) int {
	for _, w := range widths {
		line -= w + len("  ")
	}
	return line
}
