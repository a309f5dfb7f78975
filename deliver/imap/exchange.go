package imap

import "github.com/mailhaul/mailhaul/deliver/remote"

// exchange speaks SASL with the server.
func (ses *session) exchange(login *remote.Login) error {
	w := ses.wire
	w.exchange.Store(true)
	defer func() {
		w.exchange.Store(false)
		w.cancelled.Store(false)
	}()
	return ses.client.Authenticate(&canceller{login, w})
}

// canceller is a Login that tells the server when it breaks off the exchange.
// imapclient would leave it waiting, and the connection of no more use.
type canceller struct {
	*remote.Login
	wire *wire
}

// Next implements sasl.Client. That the Login has failed, it remembers itself.
func (c *canceller) Next(challenge []byte) ([]byte, error) {
	response, err := c.Login.Next(challenge)
	if err == nil || c.wire.cancelled.Swap(true) {
		return response, err
	}
	return []byte{}, nil // which wire writes as it has to be
}
