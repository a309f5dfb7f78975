package main

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// column is a column of a table.
type column struct {
	title    string
	right    bool     // aligned to the right, as numbers are
	maxWidth int      // wider cells are cut; 0 is no limit
	colours  []string // of its cells, row by row; nil is none
}

// writeTable writes a table, each column as wide as its widest cell. Unless noteBelow is
// nil, what it returns for a row follows in a line of its own; "" is no line.
func writeTable(out io.Writer, columns []column, rows [][]string, noteBelow func(row int) string) {
	const titleRow = -1
	width := columnWidths(columns, rows)
	paint := painter(isTerminal(out))
	write := func(row int, cells []string) {
		var line strings.Builder
		for i, text := range cells {
			text = runewidth.Truncate(text, width[i], "…")
			pad := strings.Repeat(" ", width[i]-runewidth.StringWidth(text))
			if colours := columns[i].colours; colours != nil && row != titleRow {
				text = paint(colours[row], text)
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
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	write(titleRow, titles)
	for i, cells := range rows {
		write(i, cells)
		if noteBelow == nil {
			continue
		}
		if note := noteBelow(i); note != "" {
			io.WriteString(out, note+"\n")
		}
	}
}

// columnWidths returns the widths of the columns of a table.
func columnWidths(columns []column, rows [][]string) []int {
	width := make([]int, len(columns))
	for i, c := range columns {
		width[i] = runewidth.StringWidth(c.title)
		for _, row := range rows {
			width[i] = max(width[i], runewidth.StringWidth(row[i]))
		}
		if c.maxWidth > 0 {
			width[i] = min(width[i], c.maxWidth)
		}
	}
	return width
}

// remainingWidth returns how many columns of a line of width line remain for one more
// cell beside cells of those widths. Two blanks separate cells.
func remainingWidth(line int, widths ...int) int {
	for _, w := range widths {
		line -= w + len("  ")
	}
	return line
}
