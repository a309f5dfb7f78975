package discover

import (
	"cmp"
	"context"
	"net"
	"strings"
)

// maxSRV bounds how many servers of a domain are tried.
const maxSRV = 4

// serversBySRV returns the servers in the SRV records of a domain (RFC 6186 §3.3):
// implicit TLS first (RFC 8314 §5.1), then by priority and weight (RFC 2782). denied
// means that the records say there is none.
func (f *Finder) serversBySRV(ctx context.Context, domain string) (servers []Server, denied bool) {
	for _, service := range []string{"pop3s", "pop3"} {
		for _, r := range f.lookupSRV(ctx, service, domain) {
			host := strings.ToLower(strings.TrimSuffix(r.Target, "."))
			if host == "" { // RFC 2782: the service is not available
				denied = true
				continue
			}
			if r.Port != 0 && len(servers) < maxSRV {
				servers = append(servers, Server{
					Host: host, Port: int(r.Port), StartTLS: service == "pop3",
					From: SRV, Confirm: !isWithin(host, domain), Provider: providerByHost(host),
				})
			}
		}
	}
	return servers, denied && len(servers) == 0
}

// lookupSRV returns the SRV records of a service, and none if the query fails: some
// resolvers do not support SRV.
func (f *Finder) lookupSRV(ctx context.Context, service, domain string) []*net.SRV {
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	// An error about malformed records comes with the valid ones.
	_, records, _ := f.resolver().LookupSRV(ctx, service, "tcp", domain+".")
	return records
}

// providerByMX returns the provider that receives a domain's mail, nil if it is not known.
func (f *Finder) providerByMX(ctx context.Context, domain string) *Provider {
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	records, _ := f.resolver().LookupMX(ctx, domain+".") // without records, Find goes on to guess
	for _, r := range records {
		if p := providerByHost(strings.ToLower(strings.TrimSuffix(r.Host, "."))); p != nil {
			return p
		}
	}
	return nil
}

func (f *Finder) resolver() *net.Resolver {
	return cmp.Or(f.Resolver, net.DefaultResolver)
}

// isWithin reports whether a host is a domain or in it.
func isWithin(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}
