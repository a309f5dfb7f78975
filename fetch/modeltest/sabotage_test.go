package modeltest

import (
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// sabotage leaves out a step of what keeps mail safe.
type sabotage struct {
	name  string
	op    func(durabletest.Op) error
	lies  lies
	eager bool // the server deletes what it has sent
	sink  func(*run, deliver.Sink) deliver.Sink
}
