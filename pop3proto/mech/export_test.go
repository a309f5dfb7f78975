package mech

import (
	"context"

	"github.com/emersion/go-sasl"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// NewWithNonce is New with the client's nonce given, as in the examples of RFCs.
func NewWithNonce(name string, c Credentials, nonce string) (sasl.Client, error) {
	c.nonce = nonce
	return New(context.Background(), name, c)
}

// NewGSSAPI returns the mechanism GSSAPI with the given ticket, instead of one of a KDC.
func NewGSSAPI(tkt messages.Ticket, key types.EncryptionKey, authzid string) sasl.Client {
	name := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "alice")
	return &gssapiClient{authzid: authzid, exchange: &Exchange{ticket: ticket{tkt, key, "EXAMPLE.ORG", name}}}
}
