package mech_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// tlsState returns the state of a client's TLS connection.
func tlsState(t *testing.T, version uint16) *tls.ConnectionState {
	t.Helper()
	cert, _, err := pop3test.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	clientConn, serverConn := net.Pipe()
	defer clientConn.Close()
	defer serverConn.Close()
	server := tls.Server(serverConn, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
	handshake := make(chan error, 1)
	go func() { handshake <- server.HandshakeContext(t.Context()) }()
	client := tls.Client(clientConn, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-handshake; err != nil {
		t.Fatal(err)
	}
	state := client.ConnectionState()
	return &state
}

// TestChannelBinding checks the client's choice of channel binding in its first message
// (RFC 5802 §6).
func TestChannelBinding(t *testing.T) {
	tls12, tls13 := tlsState(t, tls.VersionTLS12), tlsState(t, tls.VersionTLS13)
	for _, test := range []struct {
		name     string
		state    *tls.ConnectionState
		offered  bool
		endPoint bool
		want     string
	}{
		{"scram-sha-256", nil, false, false, "n,,"},
		{"scram-sha-256", tls13, false, false, "y,,"},
		{"scram-sha-1", tls12, false, false, "y,,"},
		{"scram-sha-256", tls13, true, false, "n,,"},
		{"scram-sha-1-plus", tls13, true, false, "p=tls-exporter,,"},
		{"scram-sha-256-plus", tls13, false, false, "p=tls-exporter,,"},
		{"scram-sha-256-plus", tls12, true, false, "p=tls-server-end-point,,"},
		{"scram-sha-256-plus", tls13, true, true, "p=tls-server-end-point,,"},
	} {
		m := newMech(t, test.name, mech.Credentials{
			User: "user", Password: "pencil", TLS: test.state, PlusOffered: test.offered, EndPoint: test.endPoint,
		})
		name, first, err := m.Start()
		if err != nil || !strings.EqualFold(name, test.name) || !strings.HasPrefix(string(first), test.want+"n=user,") {
			t.Errorf("%s, offered %v, end point %v: %q, %q, %v; want %q", test.name, test.offered, test.endPoint, name, first, err, test.want)
		}
	}
}
