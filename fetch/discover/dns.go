package discover

import (
	"cmp"
	"context"
	"net"
	"strings"
)

// maxSRV bounds how many servers of a domain are tried.
const maxSRV = 4

// srv returns what a domain offers (RFC 6186 §3.3), TLS from the first byte
// before all else (RFC 8314 §5.1), and then by priority and weight (RFC 2782).
// denied tells that it says to offer nothing.
func (f *Finder) srv(ctx context.Context, domain string) (servers []Server, denied bool) {
	for _, service := range []string{"pop3s", "pop3"} {
		for _, r := range f.lookupSRV(ctx, service, domain) {
			host := strings.ToLower(strings.TrimSuffix(r.Target, "."))
			if host == "" { // RFC 2782: decidedly not available
				denied = true
				continue
			}
			if r.Port != 0 && len(servers) < maxSRV {
				servers = append(servers, Server{
					Host: host, Port: int(r.Port), StartTLS: service == "pop3",
					From: SRV, Confirm: !within(host, domain), Provider: byHost(host),
				})
			}
		}
	}
	return servers, denied && len(servers) == 0
}

// lookupSRV returns no records if there is no answer, too: there are resolvers
// that know no SRV, and a guess needs none.
func (f *Finder) lookupSRV(ctx context.Context, service, domain string) []*net.SRV {
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	// A record that is malformed comes as an error beside the others.
	_, records, _ := f.resolver().LookupSRV(ctx, service, "tcp", domain+".")
	return records
}

// byMX returns the provider who takes a domain's mail, nil if that is nobody
// known.
func (f *Finder) byMX(ctx context.Context, domain string) *Provider {
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	records, _ := f.resolver().LookupMX(ctx, domain+".") // none is no error: there are guesses
	for _, r := range records {
		if p := byHost(strings.ToLower(strings.TrimSuffix(r.Host, "."))); p != nil {
			return p
		}
	}
	return nil
}

func (f *Finder) resolver() *net.Resolver {
	return cmp.Or(f.Resolver, net.DefaultResolver)
}

// within reports whether a host is a domain or in it.
func within(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}
