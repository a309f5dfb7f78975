package imap_test

import (
	"crypto/x509"
	"encoding/pem"
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
ssl_cert = <DIR/server.pem
ssl_key = <DIR/server.pem
ssl_ca = <DIR/client.pem
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_mechanisms = external
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
	findDovecot(t)
	server, authority, err := pop3test.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(server.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	mine, mineCA, err := pop3test.Certificate(pop3test.CertOptions{Name: user})
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := pop3test.Certificate(pop3test.CertOptions{Name: user})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		"server.pem": append(authority, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...),
		"client.pem": mineCA,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := startDovecot(t, strings.ReplaceAll(certificatesOnly, "DIR", dir))
	o := options(d.addr, durable.OS, t.TempDir())
	o.Server.Security, o.Server.User, o.Server.Secret = remote.StartTLS, user, nil
	trust := channel.Trust{CAs: []*x509.Certificate{root}, Certificate: &mine}
	o.Server.TLS = trust.Config(d.addr, nil)
	message := letter("a", 1000)
	put(t, open(t, o), message)

	trust.Certificate = &stranger
	o.Server.TLS = trust.Config(d.addr, nil)
	_, err = open(t, o).Begin(t.Context())
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
		t.Errorf("a stranger's certificate: %v", err)
	}
}
