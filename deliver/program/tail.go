package program

import (
	"fmt"
	"strings"
)

// tailSize is how many octets a tail keeps.
const tailSize = 4 << 10

// tail is an io.Writer that keeps the last tailSize octets.
type tail struct {
	kept []byte
	cut  bool // there was more
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-tailSize):]...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String returns what was kept, quoted; "" if there are only blanks.
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
