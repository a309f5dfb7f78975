package imap

import "github.com/mailhaul/mailhaul/deliver/remote"

// exchangeSASL does the SASL exchange of a login.
func (ses *session) exchangeSASL(login *remote.Login) error {
	w := ses.wire
	w.saslActive.Store(true)
	defer func() {
		w.saslActive.Store(false)
		w.saslCancelled.Store(false)
	}()
	return ses.client.Authenticate(&cancellingLogin{login, w})
}

// cancellingLogin is a Login that cancels the exchange with "*" (RFC 9051 §6.2.2) if the
// mechanism fails. imapclient would send nothing, so that the server would go on waiting and
// the connection could not be used any more.
type cancellingLogin struct {
	*remote.Login
	wire *wire
}

// Next implements sasl.Client. If the mechanism fails, it returns an empty response, for which
// wire sends "*". The Login keeps the error.
func (c *cancellingLogin) Next(challenge []byte) ([]byte, error) {
	response, err := c.Login.Next(challenge)
	if err == nil || c.wire.saslCancelled.Swap(true) {
		return response, err
	}
	return []byte{}, nil
}
