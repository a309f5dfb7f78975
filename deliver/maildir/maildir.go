// Package maildir delivers into a Maildir (https://cr.yp.to/proto/maildir.html)
// or a folder of a Maildir++, each message exactly once.
//
// The order on disk is what the promise rests on:
//
//	Stage    write tmp/F, and begin to sync it with others
//	Prepare  wait until each tmp/F is synced, then fsync tmp/
//	         (the caller journals that F is promised)
//	Commit   rename each tmp/F to new/F,S=…,W=…, then fsync new/, then tmp/
//	         (the caller journals that F landed)
//
// After a crash, a promised F that is still in tmp/ is renamed; one that is
// not has been: in new/ or cur/, or wherever its owner has moved it since.
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

// Options change how a Sink delivers. The zero value is the default.
type Options struct {
	// FS is the file system; nil is durable.OS.
	FS durable.FS
	// FileMode is the permission bits of a message, whatever the umask; 0 is
	// 0600.
	FileMode fs.FileMode
	// Subfolder is a Maildir++ folder below the path, as in ".Lists.Go". It
	// is created if it is missing.
	Subfolder string
	// Host names this machine in file names; empty asks the system.
	Host string
	// Owner tells apart those who deliver into one Maildir and may have
	// accounts of the same name: Sweep removes the files of its own only.
	Owner string
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Sink delivers into one Maildir. It implements deliver.Sink.
type Sink struct {
	fs   durable.FS
	root string // the Maildir
	dir  string // where the mail goes: root, or a folder of it
	mode fs.FileMode
	host string // fit for a file name
	now  func() time.Time

	owner string

	names atomic.Uint64 // how many names this sink has made

	mu      sync.Mutex
	checked bool // the folders were found, and made durable
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink for the Maildir at path. It does not look at the disk:
// Begin does. Its error is a *deliver.Error with FaultOperator, for arguments
// that cannot be meant.
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

// Profile describes the sink.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "maildir", Target: s.dir, Guarantee: deliver.ExactlyOnce}
}

// Begin creates what is missing of the Maildir and starts a batch.
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

// Close does nothing: a sink holds nothing open.
func (s *Sink) Close() error { return nil }

func (s *Sink) path(name string) string { return s.dir + "/" + name }

// filePath returns the path of a file in one of its folders.
func (s *Sink) filePath(folder, name string) string { return s.dir + "/" + folder + "/" + name }

// operatorError is the error for what only a person can put right.
func (s *Sink) operatorError(op string, err error, hint string) *deliver.Error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: s.dir, Op: op, Err: err, Hint: hint}
}

// osError tells of a call to the system that failed.
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
