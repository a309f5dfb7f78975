package mech_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// tlsState is that of a client's connection.
func tlsState(t *testing.T, version uint16) *tls.ConnectionState {
	t.Helper()
	cert, _, err := pop3test.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(t.Context()) }()
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	state := client.ConnectionState()
	return &state
}

// TestChannelBinding looks at what the client says of channel binding (RFC
// 5802 §6).
func TestChannelBinding(t *testing.T) {
	tls12, tls13 := tlsState(t, tls.VersionTLS12), tlsState(t, tls.VersionTLS13)
	for _, test := range []struct {
		name    string
		state   *tls.ConnectionState
		offered bool
		binding mech.Binding
		want    string
	}{
		{"scram-sha-256", nil, false, "", "n,,"},
		{"scram-sha-256", tls13, false, "", "y,,"},
		{"scram-sha-1", tls12, false, "", "y,,"},
		{"scram-sha-256", tls13, true, "", "n,,"},
		{"scram-sha-1-plus", tls13, true, "", "p=tls-exporter,,"},
		{"scram-sha-256-plus", tls13, false, "", "p=tls-exporter,,"},
		{"scram-sha-256-plus", tls12, true, "", "p=tls-server-end-point,,"},
		{"scram-sha-256-plus", tls12, true, mech.TLSExporter, "p=tls-exporter,,"},
		{"scram-sha-256-plus", tls13, true, mech.TLSServerEndPoint, "p=tls-server-end-point,,"},
	} {
		m := newMech(t, test.name, mech.Credentials{
			User: "user", Password: "pencil", TLS: test.state, PlusOffered: test.offered, Binding: test.binding,
		})
		name, first, err := m.Start()
		if err != nil || !strings.EqualFold(name, test.name) || !strings.HasPrefix(string(first), test.want+"n=user,") {
			t.Errorf("%s, offered %v, %q: %q, %q, %v; want %q", test.name, test.offered, test.binding, name, first, err, test.want)
		}
	}
	m, err := mech.New(t.Context(), "scram-sha-256-plus", mech.Credentials{User: "user", Password: "pencil", TLS: tls13, Binding: "tls-unique"})
	if m != nil || err == nil || !strings.Contains(err.Error(), "tls-exporter nor tls-server-end-point") {
		t.Errorf("tls-unique: %v, %v", m, err)
	}
}
