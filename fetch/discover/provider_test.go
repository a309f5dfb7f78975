package discover

import (
	"strings"
	"testing"
)

// TestProviders checks that the table of providers is consistent.
func TestProviders(t *testing.T) {
	owners := map[string]*Provider{}
	for _, p := range providers {
		if p.Name == "" || p.Host == "" && p.Advice == "" || len(p.domains) == 0 {
			t.Errorf("%s lacks something: %+v", p.Name, p)
		}
		for _, d := range append([]string{p.Host}, append(p.domains, p.hosts...)...) {
			if d != strings.ToLower(strings.TrimSpace(d)) || strings.HasSuffix(d, ".") {
				t.Errorf("%s: %q is not a domain in lower case", p.Name, d)
			}
		}
		for _, d := range p.domains {
			if other := owners[d]; other != nil {
				t.Errorf("%s is both of %s and of %s", d, other.Host, p.Host)
			}
			owners[d] = p
		}
		if p.Host != "" && providerByHost(p.Host) != p {
			t.Errorf("%s is taken for a server of %s", p.Host, providerByHost(p.Host).Name)
		}
	}
}
