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
	// minIterations is the minimum of RFC 7677 §4 and RFC 5802 §5.1; no server is
	// known to use less. Only the count slows down guessing the password from the
	// client's proof, and an attacker in the middle can choose it.
	minIterations = 4096
	// maxIterations is more than anyone recommends (1,300,000 for SHA-1) and takes
	// about a second. A server must not be able to keep us busy for hours.
	maxIterations = 2_000_000
)

// ErrBinding matches, with errors.Is, errors of a server that does not know the
// channel binding. Credentials.Rebind allows another try, which is as safe against
// anyone who lacks the server's private key.
var ErrBinding = errors.New("the server does not know this channel binding")

// ErrRefused matches, with errors.Is, errors of a server that reports a wrong user or
// password within the exchange.
var ErrRefused = errors.New("the server knows no such user and password")

// ErrStripped matches, with errors.Is, errors of a server that reports that it offers
// -PLUS although the client has seen no such offer.
var ErrStripped error = &suspectError{"the server offers -PLUS, and somebody has taken that out of what we saw"}

// OffersPlus reports whether offered, a list of registered names in any case, has a
// mechanism with -PLUS that this package implements. Others do not count: an attacker
// may have replaced the known ones with an unknown one, and then the server must be
// told that the client has seen none.
func OffersPlus(offered []string) bool {
	return slices.ContainsFunc(offered, func(name string) bool {
		name = strings.ToLower(name)
		return strings.HasSuffix(name, "-plus") && slices.ContainsFunc(mechanisms, func(m Info) bool { return m.Name == name })
	})
}

// scramClient is SCRAM-SHA-1 (RFC 5802) or SCRAM-SHA-256 (RFC 7677), with or
// without -PLUS.
type scramClient struct {
	name         string
	password     string
	conversation *scram.ClientConversation
	nonce        string
	challenges   int // received so far
}

func newSCRAM(name string, c Credentials) (sasl.Client, error) {
	hash, plus := scram.SHA256, strings.HasSuffix(name, "-plus")
	if strings.HasPrefix(name, "scram-sha-1") {
		hash = scram.SHA1
	}
	client, err := hash.NewClientUnprepped(saslprep(c.User), saslprep(c.Password), saslprep(c.Authzid))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	client.WithNonceGenerator(func() string { return c.nonce })
	s := &scramClient{name: strings.ToUpper(name), password: c.Password, nonce: c.nonce}
	binding, err := channelBinding(c.TLS, c.EndPoint)
	switch {
	case plus && err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case plus:
		s.conversation = client.NewConversationWithChannelBinding(binding)
	case err == nil && !c.PlusOffered:
		// "y": the client supports channel binding and sees no -PLUS. A server
		// that did offer it knows then that its offer was changed (RFC 5802 §6).
		s.conversation = client.NewConversationAdvertisingChannelBinding()
	default:
		s.conversation = client.NewConversation()
	}
	return s, nil
}

// saslprep applies SASLprep to s (RFC 5802 §5.1, RFC 4013). If that fails, as for a
// character added after Unicode 3.2, it returns s unchanged, as most servers store it.
func saslprep(s string) string {
	if prepared, err := stringprep.SASLprep.Prepare(s); err == nil {
		return prepared
	}
	return s
}

func (s *scramClient) Start() (name string, initial []byte, err error) {
	first, err := s.conversation.Step("")
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.name, []byte(first), nil
}

func (s *scramClient) Next(challenge []byte) ([]byte, error) {
	response, err := s.next(string(challenge))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return []byte(response), nil
}

func (s *scramClient) next(challenge string) (response string, err error) {
	s.challenges++
	if len(challenge) > maxChallenge {
		return "", errors.New("the server's challenge is too long")
	}
	if code, isError := strings.CutPrefix(challenge, "e="); isError {
		return "", s.serverError(code)
	}
	switch s.challenges {
	case 1:
		if err := s.checkServerFirst(challenge); err != nil {
			return "", err
		}
		if response, err = s.conversation.Step(challenge); err != nil {
			return "", errSyntax
		}
		return response, nil
	case 2:
		if _, err := s.conversation.Step(challenge); err != nil {
			return "", ErrUnproven
		}
		return "", nil
	}
	return "", errors.New(unexpectedChallenge)
}

var errSyntax = errors.New("the server's challenge does not follow RFC 5802")

// checkServerFirst checks the server's first message (RFC 5802 §5.1, §7) before anything
// is computed from it.
func (s *scramClient) checkServerFirst(challenge string) error {
	fields := strings.Split(challenge, ",")
	if len(fields) < 3 {
		return errSyntax
	}
	nonce, hasNonce := strings.CutPrefix(fields[0], "r=")
	salt, hasSalt := strings.CutPrefix(fields[1], "s=")
	count, hasCount := strings.CutPrefix(fields[2], "i=")
	if !hasNonce || !hasSalt || !hasCount || salt == "" {
		return errSyntax
	}
	// The server's nonce is the client's with a fresh part of its own after it.
	if fresh, ok := strings.CutPrefix(nonce, s.nonce); !ok || fresh == "" {
		return &suspectError{"the server's nonce does not continue ours: somebody may replay an old login"}
	}
	n, err := strconv.ParseUint(count, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || n > maxIterations:
		return &suspectError{fmt.Sprintf("the server asks for more than %d iterations, which would keep this machine busy", maxIterations)}
	case err != nil:
		return errSyntax
	case n < minIterations:
		return &suspectError{fmt.Sprintf("the server asks for %d iterations; with fewer than %d the password could be guessed from what we send",
			n, minIterations)}
	}
	return nil
}

// serverError returns the error for an error code of RFC 5802 §7.
func (s *scramClient) serverError(code string) error {
	code, _, _ = strings.Cut(code, ",")
	switch code {
	case "invalid-proof", "unknown-user":
		return ErrRefused
	case "channel-bindings-dont-match":
		return &suspectError{"the server's end of the TLS connection is not ours: somebody may be intercepting it"}
	case "server-does-support-channel-binding":
		return ErrStripped
	case "channel-binding-not-supported", "unsupported-channel-binding-type":
		return ErrBinding
	}
	return fmt.Errorf("the server reports the error %s", quote(code, s.password))
}

// Done returns an error if the server accepts the login without its proof.
func (s *scramClient) Done(reply error) error {
	if reply == nil && !s.conversation.Valid() {
		return fmt.Errorf("%s: %w", s.name, ErrUnproven)
	}
	return reply
}
