package fetch_test

import (
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// If the process reaches its limit of open files, the hint names that limit, whichever
// operation meets it first. Neither the disk nor the network is to blame.
func TestTooManyOpenFiles(t *testing.T) {
	open := &fs.PathError{Op: "open", Path: "tmp/1", Err: syscall.EMFILE}
	for what, err := range map[string]error{
		"server": &fetch.ConnectError{Addr: "pop.example.org:995", Err: &net.OpError{
			Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE),
		}},
		"sink":  &deliver.Error{Fault: deliver.FaultOf(open), Target: "~/Maildir", Op: "create a file", Err: open, Hint: "look at the disk"},
		"state": &state.Error{Path: "leases/1", Op: "open the lease", Err: open, Hint: "make room"},
	} {
		class, hint := fetch.Classify(err), fetch.Hint(err)
		if class != fetch.ClassMachine || !strings.Contains(hint, "ulimit -n") || !strings.Contains(hint, "parallel") {
			t.Errorf("%s: %v, %q", what, class, hint)
		}
	}
}
