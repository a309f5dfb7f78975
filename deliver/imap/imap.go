// Package imap is a sink that appends to a folder of an IMAP server (RFC 9051,
// RFC 3501).
//
// A batch waits in the spool until all of its messages are known to the last
// octet: APPEND names the size first, and one whose message falls short is
// never completed; the connection is closed instead. Before the first APPEND
// a promise records how far the folder has come, its UIDVALIDITY and UIDNEXT.
// After a crash the folder is asked what has arrived since.
//
// An IMAP literal can hold any octet but NUL, and what is in the folder must
// be a message of lines that end in CRLF. So three things are repaired, and
// nothing else is changed:
//
//   - an LF without a CR before it becomes CRLF,
//   - NUL becomes the octet 0x80, as c-client and Dovecot have it,
//   - a message of no octets becomes an empty line, because an empty literal
//     takes an APPEND back (RFC 3502 §6.3.11).
package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

const (
	// defaultIdle is less than the few minutes after which routers forget a
	// silent connection.
	defaultIdle = time.Minute
	// maxFolder and maxFlags bound what the configuration adds to a command,
	// in octets: a command must fit the buffer of imapclient.
	maxFolder = 500
	maxFlags  = 500
)

// Options say where messages go. Server and Spool are required.
type Options struct {
	// Server is the IMAP server. Without a User it must greet with PREAUTH
	// (RFC 9051 §7.1.4), as one on a UNIX socket may.
	Server remote.Server
	// Folder is the folder's name in UTF-8, with the server's own delimiter:
	// "Archive/2026". Empty is INBOX.
	Folder string
	// Create creates the folder, and subscribes to it, if it is missing.
	Create bool
	// Flags are set on each message: system flags such as \Seen, and keywords.
	Flags []string
	// Spool is where messages wait.
	Spool *spool.Dir
	// Idle is how long a connection is kept that nothing needs, a minute by
	// default.
	Idle time.Duration
	// Pool keeps it, with those of other sinks; nil is a pool of the sink's own.
	Pool *remote.Pool
	// Login, unless empty, names what Server says. Sinks of a pool that have it in
	// common use each other's connections: a server grants a user only a few.
	Login string
}

// Sink appends to one folder. It implements deliver.Sink. Its connection is kept
// for a while, and used again, perhaps by another sink of the same Login.
type Sink struct {
	server remote.Server
	folder string
	create bool
	flags  []imap.Flag
	spool  *spool.Dir
	target string
	idle   time.Duration
	pool   *remote.Pool
	key    any // of its connections in the pool

	sem         chan struct{} // holds a token while somebody uses a connection, or what follows
	sessionUses int           // of connections, so far
	closed      bool          // no connection is kept any more
	failedAt    time.Time     // when the server was last found to be of no use
	failure     error         // why that was
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink without connecting. What no IMAP server could take as the
// name of a folder or a flag is a *deliver.Error with FaultOperator.
func New(o Options) (*Sink, error) {
	s := &Sink{
		server: o.Server, folder: o.Folder, create: o.Create, spool: o.Spool,
		idle: cmp.Or(o.Idle, defaultIdle), pool: cmp.Or(o.Pool, remote.NewPool(1)), sem: make(chan struct{}, 1),
	}
	if s.folder == "" || strings.EqualFold(s.folder, "INBOX") {
		s.folder = "INBOX" // RFC 9051 §5.1: in any case
	}
	s.key = s
	if o.Login != "" {
		s.key = o.Login
	}
	s.server.Service = "imap"
	s.target = folderURL(&s.server, "")
	if len(s.folder) > maxFolder || !utf8.ValidString(s.folder) || strings.ContainsFunc(s.folder, isInvalidFolderRune) {
		return nil, s.refuse(fmt.Sprintf("no folder has the name %#.100q", s.folder), nil,
			fmt.Sprintf("folder must be UTF-8 of at most %d octets, without control characters", maxFolder))
	}
	s.target = folderURL(&s.server, s.folder)
	size := 0
	for _, name := range o.Flags {
		if !isValidFlag(name) {
			return nil, s.refuse(fmt.Sprintf("%#.100q is not a flag", name), nil, `a flag must be \Seen, \Answered, \Flagged, \Deleted, \Draft or a keyword of ASCII without blanks and (){%*"\]`)
		}
		if size += len(name) + 1; size > maxFlags {
			return nil, s.refuse("too many flags", nil, fmt.Sprintf("flags may have %d octets in all: name fewer", maxFlags))
		}
		s.flags = append(s.flags, imap.Flag(name))
	}
	return s, nil
}

// isInvalidFolderRune reports what must not be in a folder's name. U+FFFD stands for text
// that was lost before it came here.
func isInvalidFolderRune(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// isValidFlag follows RFC 9051 §9: flag, without \Recent and other flags of the
// server's own.
func isValidFlag(name string) bool {
	keyword := name
	switch f := imap.Flag(name); f {
	case imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft:
		keyword = name[1:]
	}
	return keyword != "" && !strings.ContainsFunc(keyword, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\]`, r)
	})
}

// accountDigest tells the server and user from others, in a promise.
func (s *Sink) accountDigest() string { return digest(folderURL(&s.server, "")) }

// folderURL names a folder of a server in the form of RFC 5092, unescaped.
func folderURL(server *remote.Server, folder string) string {
	user := ""
	if server.User != "" {
		user = server.User + "@"
	}
	return "imap://" + user + server.Addr + "/" + folder
}

// Profile implements deliver.Sink. Delivery is once wherever the server can
// answer what became of an APPEND. It cannot if the owner takes the message
// away before it is asked, if the folder was made anew, if the server changes
// what it stores, or if it still works on what an earlier connection sent.
// Then the message comes again.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "imap", Target: s.target, Way: s.server.Via.Way(), Guarantee: deliver.AtLeastOnce}
}

// Begin implements deliver.Sink. It connects, logs in and looks for the
// folder, unless another batch is doing so.
func (s *Sink) Begin(ctx context.Context) (deliver.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.fail("begin", err)
	}
	select {
	case s.sem <- struct{}{}:
		<-s.sem
		_, leave, err := s.acquireSession(ctx, true)
		if err != nil {
			return nil, err
		}
		leave()
	default:
		// Whoever has the connection finds out. To wait for an APPEND of the
		// batch before would leave the line to the POP3 server idle.
	}
	return &batch{Batch: s.spool.Batch(s.target), sink: s}, nil
}

// Check connects, logs in and looks for the folder, and changes nothing. It
// reports whether the folder is there; that it is missing is no error if the
// sink would create it. The error is a *deliver.Error.
func (s *Sink) Check(ctx context.Context) (exists bool, err error) {
	probe := &Sink{server: s.server, folder: s.folder, target: s.target, pool: s.pool, closed: true, sem: make(chan struct{}, 1)}
	probe.key = probe // so that it connects
	_, leave, err := probe.acquireSession(ctx, true)
	if err == nil {
		leave()
		return true, nil
	}
	e, _ := errors.AsType[*deliver.Error](err)
	said, refused := errors.AsType[serverReply](err)
	if s.create && refused && e.Op == opLook && !isOtherThanMissing(imap.ResponseCode(said.code)) {
		err = nil
	}
	return false, err
}

// Sweep implements deliver.Sink.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.fail("sweep", err)
	}
	return s.spool.Sweep(account)
}

// Close implements deliver.Sink. It waits for a Commit under way.
func (s *Sink) Close() error {
	s.sem <- struct{}{}
	defer func() { <-s.sem }()
	s.closed = true
	s.pool.Quit(s.key)
	return nil
}
