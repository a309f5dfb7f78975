package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// Report is what Check found, as far as it came.
type Report struct {
	// Addrs are the addresses that the server's name resolves to.
	Addrs []string
	// TLS is nil if the connection is not encrypted.
	TLS      *tls.ConnectionState
	Greeting string
	// Before and After are what the server can do, before and after the
	// login.
	Before, After pop3proto.Capabilities
	// Choice is how the login was chosen.
	Choice Choice
	// UIDL tells whether the server gives messages unique-ids.
	UIDL bool
	Outlook
}

// Check connects, logs in, lists and plans, and changes nothing. The report
// is filled as far as it came even if an error ends it.
func (a *Account) Check(ctx context.Context, o Options) (Report, error) {
	ctx, cancel := a.withBudget(ctx)
	defer cancel()
	var r Report
	s := &session{visit: &visit{Account: a, opts: &o, summary: new(Summary), checkReport: &r}}
	defer s.close()
	err := s.survey(ctx)
	// Only now, because Preconnect may have to open the way to a name server. Behind a
	// proxy or a tunnel, the name may mean nothing here.
	if _, unknown := errors.AsType[*net.DNSError](err); !unknown && a.Server.Via.String() == "" {
		r.Addrs, _ = net.DefaultResolver.LookupHost(ctx, a.Server.Host)
	}
	if err != nil {
		return r, lookFailed(ctx, err)
	}
	r.UIDL, r.Outlook = s.listing.UIDL, s.outlook()
	s.quitUnchanged(ctx)
	return r, nil
}
