package pop3proto

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

// maxCapabilities limits the lines of a reply to CAPA. Real ones have about ten.
const maxCapabilities = 200

// Capabilities is what a server announces that it supports. The zero value is empty.
type Capabilities struct {
	lines   [][]string // split into words, the first in upper case (RFC 2449 §5)
	secrets *mask.Set
}

// Capabilities asks the server for its capabilities with CAPA (RFC 2449 §5). It
// returns none, and no error, if the server refuses the command. If the server
// hangs up or falls silent instead, the error is a *CapabilitiesError. The client
// itself then makes use of PIPELINING and RESP-CODES. Capabilities may change with
// STLS and with the login: ask again after each.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	const verb = "CAPA"
	end, err := c.begin(ctx)
	if err != nil {
		return Capabilities{}, err
	}
	defer end()
	_, err = c.exchange(verb, verb)
	return c.readCapabilities(err)
}

// readCapabilities reads the lines of the reply to CAPA. err is the result of
// reading the reply's status line.
func (c *Client) readCapabilities(err error) (Capabilities, error) {
	caps := Capabilities{secrets: &c.w.secrets}
	if err == nil {
		err = c.readLines("CAPA", maxCapabilities, func(line []byte) error {
			caps.addLine(string(line))
			return nil
		})
	} else if _, refused := errors.AsType[*ReplyError](err); refused {
		err = nil
	}
	if hungUp(err) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = &CapabilitiesError{err}
	}
	if err != nil {
		return Capabilities{}, err
	}
	c.caps = caps
	return caps, nil
}

// Assume makes the client act as if the server had announced caps, which it did in
// an earlier session. That saves a round trip. The caller must expect commands to
// fail because the capabilities have changed.
func (c *Client) Assume(caps Capabilities) { c.caps = caps }

// ParseCapabilities parses the lines of a reply to CAPA, as Lines returns them.
func ParseCapabilities(lines []string) Capabilities {
	caps := Capabilities{}
	for _, line := range lines {
		caps.addLine(line)
	}
	return caps
}

// Lines returns one line for each capability, in the server's order and with the
// session's secrets masked.
func (c Capabilities) Lines() []string {
	lines := make([]string, len(c.lines))
	for i, words := range c.lines {
		lines[i] = c.secrets.Text(strings.Join(words, " "))
	}
	return lines
}

// Equal reports whether both have the same lines in the same order.
func (c Capabilities) Equal(other Capabilities) bool { return slices.Equal(c.Lines(), other.Lines()) }

func (c *Capabilities) addLine(line string) {
	if words := strings.Fields(line); len(words) > 0 {
		words[0] = strings.ToUpper(words[0])
		c.lines = append(c.lines, words)
	}
}

// Has reports whether the server announced the capability name, in any case.
func (c Capabilities) Has(name string) bool {
	return slices.ContainsFunc(c.lines, func(words []string) bool { return strings.EqualFold(words[0], name) })
}

// Params returns the parameters of the capability name as the server wrote them. If
// it announced the capability more than once, they are concatenated.
func (c Capabilities) Params(name string) []string {
	var params []string
	for _, words := range c.lines {
		if strings.EqualFold(words[0], name) {
			params = append(params, words[1:]...)
		}
	}
	return params
}

// SASL returns the mechanisms that AUTH supports, in upper case (RFC 5034 §3).
func (c Capabilities) SASL() []string {
	mechs := c.Params("SASL")
	for i := range mechs {
		mechs[i] = strings.ToUpper(mechs[i])
	}
	return mechs
}

// LoginDelay returns the minimum time between two logins of a user (RFC 2449
// §6.5), and false if the server did not announce one. Before the login, the
// server may announce the longest delay of any user.
func (c Capabilities) LoginDelay() (time.Duration, bool) {
	p := c.Params("LOGIN-DELAY")
	if len(p) == 0 {
		return 0, false
	}
	seconds, err := strconv.ParseUint(p[0], 10, 31)
	// More than a year cannot be meant.
	if err != nil || seconds > 365*24*60*60 {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}
