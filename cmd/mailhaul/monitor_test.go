package main

import (
	"net"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
)

// mute is a reporter of which a test takes no notice.
type mute struct{ reporter }

func (mute) note(string) {}

// A new address for metrics may hold the old one.
func TestListenAtAllAddresses(t *testing.T) {
	m := &monitor{out: mute{}, health: metrics.NewHealth(time.Now)}
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
