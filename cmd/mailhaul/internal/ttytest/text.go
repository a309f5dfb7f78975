package ttytest

import (
	"fmt"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
)

type cell = uv.Cell

// rowText returns a row of cells without the blanks at its end. The second cell
// of a wide character has no content.
func rowText(width int, at func(x int) *cell) string {
	var row strings.Builder
	for x := range width {
		if c := at(x); c == nil {
			row.WriteByte(' ')
		} else {
			row.WriteString(c.Content)
		}
	}
	return strings.TrimRight(row.String(), " ")
}

// cursorTo moves the cursor (CUP, ECMA-48 §8.3.21); the columns and rows of
// this package begin with 0.
func cursorTo(column, row int) string { return fmt.Sprintf("\x1b[%d;%dH", row+1, column+1) }

// frame draws a screen so that its edges are seen.
func frame(screen string) string {
	var framed strings.Builder
	for row := range strings.SplitSeq(screen, "\n") {
		fmt.Fprintf(&framed, "  | %s\n", row)
	}
	return framed.String()
}
