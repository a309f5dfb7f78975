package oneline

import (
	"bytes"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns a writer that passes JSON on to w and escapes what cannot be printed:
// encoders leave DEL, the control characters of ISO 6429 beyond ASCII, and marks of
// direction as they are, and JSON may be shown on a terminal. Each Write must end after
// a complete value.
func JSON(w io.Writer) io.Writer { return escapingWriter{w} }

type escapingWriter struct{ w io.Writer }

// Write implements io.Writer.
func (e escapingWriter) Write(p []byte) (int, error) {
	n := len(p)
	// Outside of strings JSON is ASCII, and encoders escape its control characters.
	if bytes.ContainsFunc(p, isHidden) {
		var escaped bytes.Buffer
		for len(p) > 0 {
			r, size := utf8.DecodeRune(p)
			switch {
			case !isHidden(r):
				escaped.Write(p[:size])
			case r > 0xffff:
				high, low := utf16.EncodeRune(r)
				fmt.Fprintf(&escaped, `\u%04x\u%04x`, high, low)
			default:
				fmt.Fprintf(&escaped, `\u%04x`, r)
			}
			p = p[size:]
		}
		p = escaped.Bytes()
	}
	if _, err := e.w.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

func isHidden(r rune) bool { return r >= 0x7f && !unicode.IsPrint(r) }
