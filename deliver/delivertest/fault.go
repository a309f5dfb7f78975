package delivertest

import (
	"errors"

	"github.com/mailhaul/mailhaul/deliver"
)

// NoFault is what FaultOf returns for an error that is no *deliver.Error, or for nil.
const NoFault = deliver.Fault(-1)

// FaultOf returns the fault of a *deliver.Error.
func FaultOf(err error) deliver.Fault {
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return e.Fault
	}
	return NoFault
}
