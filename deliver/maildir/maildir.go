// Package maildir is a sink that delivers into a Maildir
// (https://cr.yp.to/proto/maildir.html) or a folder of a Maildir++, each message
// exactly once.
//
// Exactly once depends on this order of operations. F is the name of a message:
//
//	Stage    write tmp/F, and begin to sync it together with others
//	Prepare  wait until each tmp/F is synced, then fsync tmp/
//	         (the caller records in its journal that F is promised)
//	Commit   rename each tmp/F to new/F,S=…,W=…, then fsync new/, then tmp/
//	         (the caller records in its journal that F landed)
//
// After a crash, Settle moves a promised F that is still in tmp/ to new/. One that is
// not there was moved before: it is in new/ or cur/, or where its owner has moved it
// since.
//
// maildir.go has the Sink, folder.go creates and checks the Maildir, batch.go has the
// batches, publish.go the move to new/, settle.go and token.go what follows a crash,
// name.go the file names, size.go the sizes in them.
package maildir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Options are the optional settings of a Sink.
type Options struct {
	// FS is the file system; nil is durable.OS.
	FS durable.FS
	// FileMode is the permission bits of a message, whatever the umask. 0 means
	// 0600.
	FileMode fs.FileMode
	// Subfolder is a Maildir++ folder below the path, such as ".Lists.Go". It is
	// created if it is missing.
	Subfolder string
	// Host is the name of this machine in file names; by default os.Hostname.
	Host string
	// Owner identifies this installation of mailhaul. Others may deliver into the
	// same Maildir and have accounts of the same name; Sweep leaves their files.
	Owner string
	// Now returns the time; nil is time.Now.
	Now func() time.Time
}

// Sink delivers into one Maildir. It implements deliver.Sink.
type Sink struct {
	fs   durable.FS
	root string // the Maildir
	dir  string // where the mail goes: root or a folder of it
	mode fs.FileMode
	host string // escaped for file names
	now  func() time.Time

	owner string

	names atomic.Uint64 // how many names newName has made

	mu      sync.Mutex
	checked bool // the folders exist and are durable
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink for the Maildir at path. It does not access the disk, which Begin
// does. For invalid arguments it returns a *deliver.Error with FaultOperator.
func New(path string, o Options) (*Sink, error) {
	s := &Sink{
		fs: cmp.Or(o.FS, durable.OS), dir: "maildir", mode: cmp.Or(o.FileMode, 0o600),
		host: o.Host, owner: o.Owner, now: o.Now,
	}
	if path == "" {
		return nil, s.operatorError("no path", nil, "name the folder of the Maildir")
	}
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, s.osError("find "+path, err)
	}
	s.root, s.dir = root, filepath.Join(root, o.Subfolder)
	if f := o.Subfolder; f != "" && (!strings.HasPrefix(f, ".") || strings.Trim(f, ".") == "" ||
		strings.HasSuffix(f, ".") || strings.Contains(f, "..") || strings.ContainsAny(f, "/\x00")) {
		return nil, s.operatorError("no folder of a Maildir++: "+f, nil, `write it as ".Lists.Go"`)
	}
	if s.mode&^0o777 != 0 || s.mode&0o400 == 0 {
		return nil, s.operatorError("file mode "+s.mode.String(), nil, "0600, 0640 and 0660 make sense")
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.host == "" {
		if s.host, err = os.Hostname(); err != nil {
			s.host = "localhost"
		}
	}
	s.host = escapeHost(s.host)
	return s, nil
}

// Profile implements deliver.Sink.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "maildir", Target: s.dir, Guarantee: deliver.ExactlyOnce}
}

// Begin implements deliver.Sink. It creates what is missing of the Maildir.
func (s *Sink) Begin(ctx context.Context) (deliver.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.osError("begin", err)
	}
	if len(durable.EscapePath(s.dir)) > durable.MaxEscapedPath {
		return nil, s.operatorError("the path is too long to be remembered", nil, "choose a shorter path")
	}
	if err := s.ensureMaildir(); err != nil {
		return nil, err
	}
	return &batch{s: s}, nil
}

// Close implements deliver.Sink. A sink holds nothing open.
func (s *Sink) Close() error { return nil }

// path returns the path of something in the Maildir. It does not use filepath.Join,
// like filePath, since both run for each message.
func (s *Sink) path(name string) string { return s.dir + "/" + name }

// filePath returns the path of a file in new/, cur/ or tmp/.
func (s *Sink) filePath(folder, name string) string { return s.dir + "/" + folder + "/" + name }

// operatorError returns an error that only a person can correct.
func (s *Sink) operatorError(op string, err error, hint string) *deliver.Error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: s.dir, Op: op, Err: err, Hint: hint}
}

// osError returns the error of a failed system call, or of a context that has ended.
func (s *Sink) osError(op string, err error) *deliver.Error {
	e := &deliver.Error{Fault: deliver.FaultOf(err), Target: s.dir, Op: op, Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "make the Maildir writable for the user who runs mailhaul"
	case e.Fault == deliver.FaultMachine:
		e.Hint = "look at the disk: free space, quota, and the system's log"
	case e.Fault == deliver.FaultOperator:
		e.Hint = "check that the path is right and that its disk is mounted"
	}
	return e
}
