package pop3proto

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

// maxCapabilities bounds the reply to CAPA; real ones have about ten lines.
const maxCapabilities = 200

// Capabilities are what a server said it can do. The zero value says nothing.
type Capabilities struct {
	lines   [][]string // in words, the first in upper case (RFC 2449 §5)
	secrets *mask.Set
}

// Capabilities asks the server what it can do (RFC 2449 §5). A server that
// refuses the question has no capabilities, which is no error; of one that breaks
// off over it the error is a *CapabilitiesError. The answer is remembered where it
// matters here, for PIPELINING and RESP-CODES. It may change with STLS and with the
// login: ask again after each.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	const verb = "CAPA"
	done, err := c.start(ctx)
	if err != nil {
		return Capabilities{}, err
	}
	defer done()
	_, err = c.exchange(verb, verb)
	return c.capabilities(err)
}

// capabilities reads the lines of the reply to CAPA, whose status was err.
func (c *Client) capabilities(err error) (Capabilities, error) {
	caps := Capabilities{secrets: &c.w.secrets}
	if err == nil {
		err = c.lines("CAPA", maxCapabilities, func(line []byte) error {
			caps.add(string(line))
			return nil
		})
	} else if _, refused := errors.AsType[*ReplyError](err); refused {
		err = nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = &CapabilitiesError{err}
	}
	if err != nil {
		return Capabilities{}, err
	}
	c.caps = caps
	return caps, nil
}

// Assume takes capabilities that the server told in an earlier session for its
// answer to CAPA, which spares a round trip. Whoever assumes must be ready to
// find that they no longer hold.
func (c *Client) Assume(caps Capabilities) { c.caps = caps }

// ParseCapabilities reads lines of a reply to CAPA, as Lines returns them.
func ParseCapabilities(lines []string) Capabilities {
	caps := Capabilities{}
	for _, line := range lines {
		caps.add(line)
	}
	return caps
}

// Lines returns the capabilities a line each, in the server's order, with
// secrets of the session masked.
func (c Capabilities) Lines() []string {
	lines := make([]string, len(c.lines))
	for i, words := range c.lines {
		lines[i] = c.secrets.Text(strings.Join(words, " "))
	}
	return lines
}

// Equal reports whether two answers to CAPA say the same, in the same order.
func (c Capabilities) Equal(other Capabilities) bool { return slices.Equal(c.Lines(), other.Lines()) }

func (c *Capabilities) add(line string) {
	if words := strings.Fields(line); len(words) > 0 {
		words[0] = strings.ToUpper(words[0])
		c.lines = append(c.lines, words)
	}
}

// Has reports whether the server named the capability, in whatever case.
func (c Capabilities) Has(name string) bool {
	return slices.ContainsFunc(c.lines, func(words []string) bool { return strings.EqualFold(words[0], name) })
}

// Params returns the parameters of a capability as the server wrote them. If
// it named the capability more than once, they are joined.
func (c Capabilities) Params(name string) []string {
	var params []string
	for _, words := range c.lines {
		if strings.EqualFold(words[0], name) {
			params = append(params, words[1:]...)
		}
	}
	return params
}

// SASL returns the mechanisms that AUTH takes, in upper case (RFC 5034 §3).
func (c Capabilities) SASL() []string {
	mechs := c.Params("SASL")
	for i := range mechs {
		mechs[i] = strings.ToUpper(mechs[i])
	}
	return mechs
}

// LoginDelay returns how long the server wants a user to wait between two
// logins (RFC 2449 §6.5), and false if it did not say. Before the login it
// may be the longest wait of any user.
func (c Capabilities) LoginDelay() (time.Duration, bool) {
	p := c.Params("LOGIN-DELAY")
	if len(p) == 0 {
		return 0, false
	}
	seconds, err := strconv.ParseUint(p[0], 10, 31)
	// More than a year is nonsense.
	if err != nil || seconds > 365*24*60*60 {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}
