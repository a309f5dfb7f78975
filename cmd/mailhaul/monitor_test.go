package main

import (
	"net"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
)

// silentReporter is a reporter that ignores notes.
type silentReporter struct{ reporter }

func (silentReporter) note(string) {}

// The metrics can move to an address that includes the old one.
func TestListenAtAllAddresses(t *testing.T) {
	m := &monitor{out: silentReporter{}, health: metrics.NewHealth(time.Now)}
	if err := m.listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer m.closeServer()
	_, port, err := net.SplitHostPort(m.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.listen("0.0.0.0:" + port); err != nil {
		t.Fatal(err)
	}
	if got := m.server.Addr(); got == "127.0.0.1:"+port {
		t.Errorf("it is still at %s", got)
	}
}
