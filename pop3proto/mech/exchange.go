package mech

import (
	"context"
	"errors"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Exchange is an AP exchange (RFC 4120 §3.2) with mutual authentication: the client
// sends its ticket to a service, and the service proves that it can decrypt it. GSSAPI
// and KPOP each wrap its two messages in their own way.
type Exchange struct {
	ticket        ticket
	authenticator types.Authenticator
	key           types.EncryptionKey // after Verify: the service's subkey, or the ticket's key
	subkey        bool                // key is a subkey
}

// Exchange gets a ticket for a service, such as pop/mail.example.org, and begins an
// exchange. It may ask the KDCs of krb5.conf, for up to 30 seconds. user is the
// default of Principal for a keytab. If there is no ticket, the error is a
// *TicketError, or the cause of ctx.
func (k Kerberos) Exchange(ctx context.Context, service, user string) (*Exchange, error) {
	tkt, err := k.getTicket(ctx, service, user)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, newTicketError(err)
	}
	return &Exchange{ticket: tkt}, nil
}

// Request returns the AP-REQ.
func (e *Exchange) Request() ([]byte, error) { return e.request(types.Checksum{}) }

// request returns an AP-REQ with a checksum in its authenticator.
func (e *Exchange) request(sum types.Checksum) ([]byte, error) {
	var err error
	if e.authenticator, err = types.NewAuthenticator(e.ticket.realm, e.ticket.cname); err != nil {
		return nil, err
	}
	e.authenticator.Cksum = sum
	req, err := messages.NewAPReq(e.ticket.Ticket, e.ticket.key, e.authenticator)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	return req.Marshal()
}

// Verify checks the service's AP-REP: it must contain the authenticator's time (RFC
// 4120 §3.2.4, §3.2.5), encrypted with the session key in the ticket. If not, the error
// is ErrUnproven.
func (e *Exchange) Verify(message []byte) error {
	var reply messages.APRep
	if err := reply.Unmarshal(message); err != nil {
		return ErrUnproven
	}
	plain, err := decrypt(reply.EncPart.Cipher, e.ticket.key, keyusage.AP_REP_ENCPART)
	if err != nil {
		return ErrUnproven
	}
	var proof messages.EncAPRepPart
	if err := proof.Unmarshal(plain); err != nil ||
		proof.CTime.Unix() != e.authenticator.CTime.Unix() || proof.Cusec != e.authenticator.Cusec {
		return ErrUnproven
	}
	e.key = e.ticket.key
	if len(proof.Subkey.KeyValue) > 0 {
		e.key, e.subkey = proof.Subkey, true
	}
	return nil
}

// decrypt checks the length of message first, since gokrb5 does not.
func decrypt(message []byte, key types.EncryptionKey, usage uint32) ([]byte, error) {
	etype, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	if len(message) <= etype.GetConfounderByteSize()+etype.GetHMACBitLength()/8 {
		return nil, errors.New("message too short")
	}
	return crypto.DecryptMessage(message, key, usage)
}
