// Package discovertest is a DNS server for tests. It listens on the loopback interface,
// and answers with the records that a test adds.
package discovertest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server. Its methods may be called at any time.
type DNS struct {
	// Addr is its host:port (UDP). It serves until the test ends.
	Addr string
	tb   testing.TB

	mu      sync.Mutex
	records map[string][]dnsmessage.ResourceBody // by "TYPE name."
}

// New starts a name server without records.
func New(tb testing.TB) *DNS {
	tb.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	d := &DNS{Addr: conn.LocalAddr().String(), tb: tb, records: map[string][]dnsmessage.ResourceBody{}}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return // the test is over
			}
			if reply, err := d.answer(buf[:n]); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return d
}

// SRV adds a record for a service of a domain (RFC 2782). target ends with a
// dot.
func (d *DNS) SRV(service, domain, target string, port, priority int) {
	d.add(dnsmessage.TypeSRV, "_"+service+"._tcp."+domain, &dnsmessage.SRVResource{
		Priority: uint16(priority), Weight: 1, Port: uint16(port), Target: d.name(target),
	})
}

// MX adds a host that receives the mail of a domain. host ends with a dot.
func (d *DNS) MX(domain, host string) {
	d.add(dnsmessage.TypeMX, domain, &dnsmessage.MXResource{Pref: 1, MX: d.name(host)})
}

func (d *DNS) add(kind dnsmessage.Type, name string, body dnsmessage.ResourceBody) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := kind.String() + " " + name + "."
	d.records[key] = append(d.records[key], body)
}

func (d *DNS) name(s string) dnsmessage.Name {
	d.tb.Helper()
	n, err := dnsmessage.NewName(s)
	if err != nil {
		d.tb.Fatal(err)
	}
	return n
}

// Resolver returns a resolver that queries only the name server at addr.
func Resolver(addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", addr)
	}}
}

// answer returns the reply to a query. A name without records of the type does not exist.
func (d *DNS) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("not a query: %w", err)
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: dnsmessage.RCodeNameError},
		Questions: m.Questions,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, body := range d.records[q.Type.String()+" "+strings.ToLower(q.Name.String())] {
		reply.RCode = dnsmessage.RCodeSuccess
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}, Body: body,
		})
	}
	return reply.Pack()
}
