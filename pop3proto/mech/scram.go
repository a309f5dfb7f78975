package mech

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"
)

const (
	// minIterations is what RFC 7677 §4 and RFC 5802 §5.1 want of servers at
	// least; none is known to ask for less. The count is all that slows down
	// who wants to guess the password from a proof, and somebody in the middle
	// chooses it.
	minIterations = 4096
	// maxIterations is beyond what anybody recommends (1,300,000 for SHA-1)
	// and takes about a second. A server must not keep us busy for hours.
	maxIterations = 2_000_000
)

// ErrBinding is what an error is, in the sense of errors.Is, if the server
// does not know the channel binding. Another try, as Credentials.Rebind has it,
// is as good against anybody who has not the server's certificate.
var ErrBinding = errors.New("the server does not know this channel binding")

// ErrRefused is what an error is, in the sense of errors.Is, if the server says
// within the exchange that user or password are wrong.
var ErrRefused = errors.New("the server knows no such user and password")

// ErrStripped is what an error is, in the sense of errors.Is, if the server says
// that it offers -PLUS, and what it was said to offer has none.
var ErrStripped error = &suspicion{"the server offers -PLUS, and somebody has taken that out of what we saw"}

// OffersPlus reports whether a server that offers these mechanisms, by their
// registered names in whatever case, has one with -PLUS that is known here. One
// that is not known does not count: somebody may have put it in the place of
// those that he took out, so that the server is not told that none was seen.
func OffersPlus(offered []string) bool {
	return slices.ContainsFunc(offered, func(name string) bool {
		name = strings.ToLower(name)
		return strings.HasSuffix(name, "-plus") && slices.ContainsFunc(mechanisms, func(m Info) bool { return m.Name == name })
	})
}

// scramClient is SCRAM-SHA-1 (RFC 5802) or SCRAM-SHA-256 (RFC 7677), with or
// without -PLUS.
type scramClient struct {
	name     string
	password string
	talk     *scram.ClientConversation
	nonce    string
	round    int
}

func newSCRAM(name string, c Credentials) (sasl.Client, error) {
	hash, plus := scram.SHA256, strings.HasSuffix(name, "-plus")
	if strings.HasPrefix(name, "scram-sha-1") {
		hash = scram.SHA1
	}
	client, err := hash.NewClientUnprepped(prepare(c.User), prepare(c.Password), prepare(c.Authzid))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	client.WithNonceGenerator(func() string { return c.nonce })
	m := &scramClient{name: strings.ToUpper(name), password: c.Password, nonce: c.nonce}
	binding, err := channelBinding(c.TLS, c.EndPoint)
	switch {
	case plus && err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case plus:
		m.talk = client.NewConversationWithChannelBinding(binding)
	case err == nil && !c.PlusOffered:
		// "y": we could bind, but see no -PLUS. A server that did offer it
		// then knows that somebody has taken it out (RFC 5802 §6).
		m.talk = client.NewConversationAdvertisingChannelBinding()
	default:
		m.talk = client.NewConversation()
	}
	return m, nil
}

// prepare returns s as SASLprep has it (RFC 5802 §5.1, RFC 4013), or as it is
// if SASLprep knows none: a password may hold a character younger than
// Unicode 3.2, and most servers store it as it was typed.
func prepare(s string) string {
	if prepared, err := stringprep.SASLprep.Prepare(s); err == nil {
		return prepared
	}
	return s
}

func (m *scramClient) Start() (name string, initial []byte, err error) {
	first, err := m.talk.Step("")
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return m.name, []byte(first), nil
}

func (m *scramClient) Next(challenge []byte) ([]byte, error) {
	response, err := m.next(string(challenge))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return []byte(response), nil
}

func (m *scramClient) next(challenge string) (response string, err error) {
	m.round++
	if len(challenge) > maxChallenge {
		return "", errors.New("the server's challenge is too long")
	}
	if code, is := strings.CutPrefix(challenge, "e="); is {
		return "", m.serverError(code)
	}
	switch m.round {
	case 1:
		if err := m.checkFirst(challenge); err != nil {
			return "", err
		}
		if response, err = m.talk.Step(challenge); err != nil {
			return "", errSyntax
		}
		return response, nil
	case 2:
		if _, err := m.talk.Step(challenge); err != nil {
			return "", ErrUnproven
		}
		return "", nil
	}
	return "", errors.New(tooMany)
}

var errSyntax = errors.New("the server's challenge does not follow RFC 5802")

// checkFirst checks the server's first message before anything is computed
// from it (RFC 5802 §5.1, §7).
func (m *scramClient) checkFirst(challenge string) error {
	fields := strings.Split(challenge, ",")
	if len(fields) < 3 {
		return errSyntax
	}
	nonce, r := strings.CutPrefix(fields[0], "r=")
	salt, s := strings.CutPrefix(fields[1], "s=")
	count, i := strings.CutPrefix(fields[2], "i=")
	if !r || !s || !i || salt == "" {
		return errSyntax
	}
	// Without a part of its own the server has added nothing fresh.
	if own, ours := strings.CutPrefix(nonce, m.nonce); !ours || own == "" {
		return &suspicion{"the server's nonce does not continue ours: somebody may replay an old login"}
	}
	n, err := strconv.ParseUint(count, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || n > maxIterations:
		return &suspicion{fmt.Sprintf("the server asks for more than %d iterations, which would keep this machine busy", maxIterations)}
	case err != nil:
		return errSyntax
	case n < minIterations:
		return &suspicion{fmt.Sprintf("the server asks for %d iterations; with fewer than %d the password could be guessed from what we send",
			n, minIterations)}
	}
	return nil
}

// serverError says what an error code of RFC 5802 §7 means.
func (m *scramClient) serverError(code string) error {
	code, _, _ = strings.Cut(code, ",")
	switch code {
	case "invalid-proof", "unknown-user":
		return ErrRefused
	case "channel-bindings-dont-match":
		return &suspicion{"the server's end of the TLS connection is not ours: somebody may be intercepting it"}
	case "server-does-support-channel-binding":
		return ErrStripped
	case "channel-binding-not-supported", "unsupported-channel-binding-type":
		return ErrBinding
	}
	return fmt.Errorf("the server reports the error %s", quote(code, m.password))
}

// Done makes sure that a server which accepts the login has proved itself.
func (m *scramClient) Done(reply error) error {
	if reply == nil && !m.talk.Valid() {
		return fmt.Errorf("%s: %w", m.name, ErrUnproven)
	}
	return reply
}
