package mech

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/emersion/go-sasl"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"
)

// gssapiClient is GSSAPI (RFC 4752): Kerberos V5 with mutual authentication (RFC
// 4121), without a security layer, which TLS provides.
type gssapiClient struct {
	authzid    string
	exchange   *Exchange
	challenges int  // received so far
	completed  bool // the server has proved its identity, and the layer is chosen
}

func newGSSAPI(ctx context.Context, c Credentials) (sasl.Client, error) {
	x, err := c.Kerberos.Exchange(ctx, c.Service+"/"+c.Host, c.User)
	if err != nil {
		return nil, fmt.Errorf("gssapi: %w", err)
	}
	return &gssapiClient{authzid: c.Authzid, exchange: x}, nil
}

// krb5OID is the object identifier of Kerberos V5 in DER (RFC 4121 §4.1).
var krb5OID = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// What precedes an AP-REQ and an AP-REP in a token (RFC 4121 §4.1).
var (
	apReqPrefix = append(bytes.Clone(krb5OID), 0x01, 0x00)
	apRepPrefix = append(bytes.Clone(krb5OID), 0x02, 0x00)
)

// Start returns the token that establishes the context (RFC 4121 §4.1).
func (g *gssapiClient) Start() (name string, initial []byte, err error) {
	token, err := g.initialToken()
	if err != nil {
		return "", nil, fmt.Errorf("GSSAPI: %w", err)
	}
	return "GSSAPI", token, nil
}

func (g *gssapiClient) initialToken() ([]byte, error) {
	// RFC 4121 §4.1.1: the length of the channel bindings, which are all zero, and
	// the flags.
	checksum := make([]byte, 24)
	binary.LittleEndian.PutUint32(checksum, 16)
	binary.LittleEndian.PutUint32(checksum[20:], gssapi.ContextFlagMutual|gssapi.ContextFlagInteg)
	body, err := g.exchange.request(types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: checksum})
	if err != nil {
		return nil, err
	}
	return asn1tools.AddASNAppTag(append(bytes.Clone(apReqPrefix), body...), 0), nil
}

func (g *gssapiClient) Next(challenge []byte) ([]byte, error) {
	response, err := g.next(challenge)
	if err != nil {
		return nil, fmt.Errorf("GSSAPI: %w", err)
	}
	return response, nil
}

func (g *gssapiClient) next(challenge []byte) ([]byte, error) {
	g.challenges++
	if len(challenge) > maxChallenge {
		return nil, errors.New("the server's challenge is too long")
	}
	switch g.challenges {
	case 1:
		return []byte{}, g.verifyServer(challenge)
	case 2:
		return g.chooseLayer(challenge)
	}
	return nil, errors.New(unexpectedChallenge)
}

// verifyServer checks the server's proof that it can decrypt the ticket.
func (g *gssapiClient) verifyServer(token []byte) error {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(token, &outer)
	body, isReply := bytes.CutPrefix(outer.Bytes, apRepPrefix)
	if err != nil || len(rest) > 0 || outer.Class != asn1.ClassApplication || outer.Tag != 0 || !isReply {
		return errors.New("the server refuses the ticket")
	}
	return g.exchange.Verify(body)
}

// Flags of a Wrap token (RFC 4121 §4.2.2).
const (
	flagSealed = 0x02
	flagSubkey = 0x04
)

// chooseLayer responds to the server's offer of security layers: it chooses none, and
// names the mailbox to open (RFC 4752 §3.1).
func (g *gssapiClient) chooseLayer(token []byte) ([]byte, error) {
	var offer gssapi.WrapToken
	if err := offer.Unmarshal(unrotate(token), true); err != nil || offer.Flags&flagSealed != 0 {
		return nil, errors.New("the server's offer of security layers is no Wrap token of RFC 4121")
	}
	if ok, err := offer.Verify(g.exchange.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil || !ok {
		return nil, ErrUnproven
	}
	const noLayer = 1
	if len(offer.Payload) != 4 || offer.Payload[0]&noLayer == 0 {
		return nil, errors.New("the server insists on a security layer besides TLS")
	}
	etype, err := crypto.GetEtype(g.exchange.key.KeyType)
	if err != nil {
		return nil, err
	}
	var flags byte
	if g.exchange.subkey {
		flags = flagSubkey
	}
	choice := gssapi.WrapToken{
		Flags:     flags,
		EC:        uint16(etype.GetHMACBitLength() / 8),
		SndSeqNum: uint64(g.exchange.authenticator.SeqNumber),
		Payload:   append([]byte{noLayer, 0, 0, 0}, g.authzid...),
	}
	if err := choice.SetCheckSum(g.exchange.key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil {
		return nil, err
	}
	g.completed = true
	return choice.Marshal()
}

// unrotate undoes the right rotation of a Wrap token after its header (RFC 4121
// §4.2.5), which gokrb5 does not.
func unrotate(token []byte) []byte {
	if len(token) <= gssapi.HdrLen {
		return token
	}
	head, body := token[:gssapi.HdrLen], token[gssapi.HdrLen:]
	n := int(binary.BigEndian.Uint16(head[6:])) % len(body)
	return bytes.Join([][]byte{head, body[n:], body[:n]}, nil)
}

// Done returns an error if the server accepts the login without its proof.
func (g *gssapiClient) Done(reply error) error {
	if reply == nil && !g.completed {
		return fmt.Errorf("GSSAPI: %w", ErrUnproven)
	}
	return reply
}
