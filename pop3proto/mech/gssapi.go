package mech

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/emersion/go-sasl"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// gssapiClient is GSSAPI (RFC 4752): Kerberos V5 with mutual authentication
// (RFC 4121) and no security layer, which TLS is for.
type gssapiClient struct {
	authzid       string
	ticket        ticket
	authenticator types.Authenticator
	key           types.EncryptionKey // of the context
	subkey        byte                // flagSubkey if it is the server's choice
	round         int
	agreed        bool
}

func newGSSAPI(c Credentials) (sasl.Client, error) {
	tkt, err := c.Kerberos.ticket(c.Service+"/"+c.Host, c.User)
	if err != nil {
		return nil, fmt.Errorf("gssapi: %w", err)
	}
	return &gssapiClient{authzid: c.Authzid, ticket: tkt}, nil
}

// krb5 is Kerberos V5 as an object identifier in DER (RFC 4121 §4.1).
var krb5 = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

var (
	apReq = append(bytes.Clone(krb5), 0x01, 0x00)
	apRep = append(bytes.Clone(krb5), 0x02, 0x00)
)

// Start returns the token that opens the context (RFC 4121 §4.1).
func (g *gssapiClient) Start() (name string, initial []byte, err error) {
	token, err := g.open()
	if err != nil {
		return "", nil, fmt.Errorf("GSSAPI: %w", err)
	}
	return "GSSAPI", token, nil
}

func (g *gssapiClient) open() ([]byte, error) {
	var err error
	if g.authenticator, err = types.NewAuthenticator(g.ticket.realm, g.ticket.cname); err != nil {
		return nil, err
	}
	// RFC 4121 §4.1.1: the length of the channel bindings, which are all
	// zero, and the flags.
	sum := make([]byte, 24)
	binary.LittleEndian.PutUint32(sum, 16)
	binary.LittleEndian.PutUint32(sum[20:], gssapi.ContextFlagMutual|gssapi.ContextFlagInteg)
	g.authenticator.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	req, err := messages.NewAPReq(g.ticket.Ticket, g.ticket.key, g.authenticator)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	body, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return asn1tools.AddASNAppTag(append(bytes.Clone(apReq), body...), 0), nil
}

func (g *gssapiClient) Next(challenge []byte) ([]byte, error) {
	response, err := g.next(challenge)
	if err != nil {
		return nil, fmt.Errorf("GSSAPI: %w", err)
	}
	return response, nil
}

func (g *gssapiClient) next(challenge []byte) ([]byte, error) {
	g.round++
	if len(challenge) > maxChallenge {
		return nil, errors.New("the server's challenge is too long")
	}
	switch g.round {
	case 1:
		return []byte{}, g.prove(challenge)
	case 2:
		return g.agree(challenge)
	}
	return nil, errors.New(tooMany)
}

// prove checks the server's proof, that it can read the ticket: it returns
// the time that the authenticator names (RFC 4120 §3.2.4, §3.2.5).
func (g *gssapiClient) prove(token []byte) error {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(token, &outer)
	body, isReply := bytes.CutPrefix(outer.Bytes, apRep)
	if err != nil || len(rest) > 0 || outer.Class != asn1.ClassApplication || outer.Tag != 0 || !isReply {
		return errors.New("the server refuses the ticket")
	}
	var reply messages.APRep
	if err := reply.Unmarshal(body); err != nil {
		return ErrUnproven
	}
	plain, err := decrypt(reply.EncPart.Cipher, g.ticket.key, keyusage.AP_REP_ENCPART)
	if err != nil {
		return ErrUnproven
	}
	var proof messages.EncAPRepPart
	if err := proof.Unmarshal(plain); err != nil ||
		proof.CTime.Unix() != g.authenticator.CTime.Unix() || proof.Cusec != g.authenticator.Cusec {
		return ErrUnproven
	}
	g.key = g.ticket.key
	if len(proof.Subkey.KeyValue) > 0 {
		g.key, g.subkey = proof.Subkey, flagSubkey
	}
	return nil
}

// decrypt guards gokrb5, which takes for granted that a message is as long as
// its parts.
func decrypt(message []byte, key types.EncryptionKey, usage uint32) ([]byte, error) {
	kind, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	if len(message) <= kind.GetConfounderByteSize()+kind.GetHMACBitLength()/8 {
		return nil, errors.New("message too short")
	}
	return crypto.DecryptMessage(message, key, usage)
}

// Flags of a Wrap token (RFC 4121 §4.2.2).
const (
	flagSealed = 0x02
	flagSubkey = 0x04
)

// agree answers the server's offer of security layers: none, and whose
// mailbox to open (RFC 4752 §3.1).
func (g *gssapiClient) agree(token []byte) ([]byte, error) {
	var offer gssapi.WrapToken
	if err := offer.Unmarshal(unrotate(token), true); err != nil || offer.Flags&flagSealed != 0 {
		return nil, errors.New("the server's offer of security layers is no Wrap token of RFC 4121")
	}
	if ok, err := offer.Verify(g.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil || !ok {
		return nil, ErrUnproven
	}
	const noLayer = 1
	if len(offer.Payload) != 4 || offer.Payload[0]&noLayer == 0 {
		return nil, errors.New("the server insists on a security layer besides TLS")
	}
	kind, err := crypto.GetEtype(g.key.KeyType)
	if err != nil {
		return nil, err
	}
	choice := gssapi.WrapToken{
		Flags:     g.subkey,
		EC:        uint16(kind.GetHMACBitLength() / 8),
		SndSeqNum: uint64(g.authenticator.SeqNumber),
		Payload:   append([]byte{noLayer, 0, 0, 0}, g.authzid...),
	}
	if err := choice.SetCheckSum(g.key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil {
		return nil, err
	}
	g.agreed = true
	return choice.Marshal()
}

// unrotate undoes the right rotation of what follows the header of a Wrap
// token (RFC 4121 §4.2.5), which gokrb5 leaves as it is.
func unrotate(token []byte) []byte {
	if len(token) <= gssapi.HdrLen {
		return token
	}
	head, body := token[:gssapi.HdrLen], token[gssapi.HdrLen:]
	n := int(binary.BigEndian.Uint16(head[6:])) % len(body)
	return bytes.Join([][]byte{head, body[n:], body[:n]}, nil)
}

// Done makes sure that a server which accepts the login has proved itself.
func (g *gssapiClient) Done(reply error) error {
	if reply == nil && !g.agreed {
		return fmt.Errorf("GSSAPI: %w", ErrUnproven)
	}
	return reply
}
