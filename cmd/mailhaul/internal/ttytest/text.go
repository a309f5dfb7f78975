package ttytest

import (
	"fmt"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
)

type cell = uv.Cell

// rowText returns a row of cells without trailing blanks. The second cell of a wide
// character has no content.
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

// cursorTo returns the sequence that moves the cursor (CUP, ECMA-48 §8.3.21). Columns and
// rows count from 0.
func cursorTo(column, row int) string { return fmt.Sprintf("\x1b[%d;%dH", row+1, column+1) }

// frame marks the left edge of a screen, for messages.
func frame(screen string) string {
	var framed strings.Builder
	for row := range strings.SplitSeq(screen, "\n") {
		fmt.Fprintf(&framed, "  | %s\n", row)
	}
	return framed.String()
}
