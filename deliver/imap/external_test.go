package imap_test

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// certificatesOnly is a Dovecot that lets in by client certificates alone.
const certificatesOnly = `
ssl = required
ssl_ca = <AUTHORITY
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_ssl_username_from_cert = yes
ssl_cert_username_field = commonName
passdb {
  driver = static
  mechanisms = external
  args = nopassword=y
}
`

// TestExternal logs in by a certificate, and has no password.
func TestExternal(t *testing.T) {
	mine, mineCA, err := pop3test.Certificate(pop3test.CertOptions{Name: user})
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := pop3test.Certificate(pop3test.CertOptions{Name: user})
	if err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(t.TempDir(), "client.pem")
	if err := os.WriteFile(authority, mineCA, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDovecot(t, strings.ReplaceAll(certificatesOnly, "AUTHORITY", authority), "external")
	as := func(cert *tls.Certificate) deliver.Sink {
		o := options(d.Addr, durable.OS, t.TempDir())
		o.Server.Security, o.Server.User, o.Server.Secret = remote.StartTLS, user, nil
		o.Server.TLS = channel.Trust{Certificate: cert}.Config(d.Addr, nil)
		o.Server.TLS.RootCAs = d.TLSConfig().RootCAs
		return open(t, o)
	}
	put(t, as(&mine), letter("a", 1000))
	_, err = as(&stranger).Begin(t.Context())
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
		t.Errorf("a stranger's certificate: %v", err)
	}
}
