package program

import (
	"fmt"
	"strings"
)

// tailSize is how much is kept of what a program says.
const tailSize = 4 << 10

// tail keeps the last tailSize octets that were written to it.
type tail struct {
	kept []byte
	cut  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-tailSize):]...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String quotes what was kept; it is empty if there was nothing but blanks.
func (t *tail) String() string {
	said := strings.TrimSpace(string(t.kept))
	switch {
	case said == "":
		return ""
	case t.cut:
		said = "…" + said
	}
	return fmt.Sprintf("%q", said)
}
