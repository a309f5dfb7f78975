package imap

import "github.com/mailhaul/mailhaul/deliver/remote"

// exchangeSASL speaks SASL with the server.
func (ses *session) exchangeSASL(login *remote.Login) error {
	w := ses.wire
	w.saslActive.Store(true)
	defer func() {
		w.saslActive.Store(false)
		w.saslCancelled.Store(false)
	}()
	return ses.client.Authenticate(&cancellingLogin{login, w})
}

// cancellingLogin is a Login that tells the server when it breaks off the exchange.
// imapclient would leave it waiting, and the connection of no more use.
type cancellingLogin struct {
	*remote.Login
	wire *wire
}

// Next implements sasl.Client. That the Login has failed, it remembers itself.
func (c *cancellingLogin) Next(challenge []byte) ([]byte, error) {
	response, err := c.Login.Next(challenge)
	if err == nil || c.wire.saslCancelled.Swap(true) {
		return response, err
	}
	return []byte{}, nil // which wire writes as it has to be
}
