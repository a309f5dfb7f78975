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

// Exchange is an AP exchange (RFC 4120 §3.2) with mutual authentication: the
// client shows a service its ticket, and the service proves that it can read
// it. GSSAPI and KPOP wrap its two messages, each in its own way.
type Exchange struct {
	ticket        ticket
	authenticator types.Authenticator
	key           types.EncryptionKey // once it is proved: the service's choice, or the ticket's
	subkey        bool                // key is the service's choice
}

// Exchange begins an exchange with a service, such as pop/mail.example.org.
// It may ask the KDCs of krb5.conf, for half a minute at most. user is whose
// key is in the keytab; a credential cache tells for itself. The error of a
// ticket that cannot be had is a *TicketError, unless ctx ended.
func (k Kerberos) Exchange(ctx context.Context, service, user string) (*Exchange, error) {
	tkt, err := k.ticket(ctx, service, user)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, newTicketError(err)
	}
	return &Exchange{ticket: tkt}, nil
}

// Request returns the AP-REQ.
func (x *Exchange) Request() ([]byte, error) { return x.request(types.Checksum{}) }

// request returns an AP-REQ whose authenticator holds a checksum.
func (x *Exchange) request(sum types.Checksum) ([]byte, error) {
	var err error
	if x.authenticator, err = types.NewAuthenticator(x.ticket.realm, x.ticket.cname); err != nil {
		return nil, err
	}
	x.authenticator.Cksum = sum
	req, err := messages.NewAPReq(x.ticket.Ticket, x.ticket.key, x.authenticator)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	return req.Marshal()
}

// Verify checks the service's AP-REP: it returns the time that the
// authenticator names (RFC 4120 §3.2.4, §3.2.5), under a key that only who
// can read the ticket has. Any other is ErrUnproven.
func (x *Exchange) Verify(message []byte) error {
	var reply messages.APRep
	if err := reply.Unmarshal(message); err != nil {
		return ErrUnproven
	}
	plain, err := decrypt(reply.EncPart.Cipher, x.ticket.key, keyusage.AP_REP_ENCPART)
	if err != nil {
		return ErrUnproven
	}
	var proof messages.EncAPRepPart
	if err := proof.Unmarshal(plain); err != nil ||
		proof.CTime.Unix() != x.authenticator.CTime.Unix() || proof.Cusec != x.authenticator.Cusec {
		return ErrUnproven
	}
	x.key = x.ticket.key
	if len(proof.Subkey.KeyValue) > 0 {
		x.key, x.subkey = proof.Subkey, true
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
