package fetch_test

import (
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// A server that only does not know how to go on with a mechanism is no reason to
// distrust the network.
func TestHarmlessExchange(t *testing.T) {
	for _, challenge := range []string{"e=other-error", "nonsense"} {
		r, _ := secure(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: strong}, pop3test.CertOptions{})
		r.server.Order(pop3test.AlterChallenge(func(string) string { return challenge }))
		s := r.poll()
		if hint := fetch.Hint(s.Err); s.Class != fetch.ClassOperator || strings.Contains(hint, "trust") || !strings.Contains(hint, "auth") {
			t.Errorf("%s: %v: %v (%q)", challenge, s.Class, s.Err, hint)
		}
	}
}
