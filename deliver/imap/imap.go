// Package imap is a sink that appends to a folder of an IMAP server (RFC 9051,
// RFC 3501).
//
// APPEND sends the size of a message before its content. So a batch is first written to
// the spool; if a message turns out to be shorter, the connection is closed and the APPEND
// is not completed. The promises record the UIDVALIDITY and UIDNEXT of the folder before
// the first APPEND. After a crash, Settle looks for the message among those that came
// into the folder since.
//
// An IMAP literal can contain any octet except NUL, and the folder must contain messages
// with CRLF at the end of lines. So three things are repaired, and nothing else is
// changed:
//
//   - an LF without a CR before it becomes CRLF,
//   - NUL becomes the octet 0x80, as c-client and Dovecot have it,
//   - a message of no octets becomes an empty line, because an empty literal
//     cancels an APPEND (RFC 3502 §6.3.11).
//
// imap.go has the Sink; session.go, starttls.go, login.go and sasl.go the connection, and
// wire.go what imapclient needs below it; batch.go and repair.go what happens before a
// message is sent; append.go and multiappend.go the sending; settle.go and token.go what
// follows a crash; errors.go the refusals of the server.
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
	// defaultIdle is less than the few minutes after which routers drop an idle
	// connection.
	defaultIdle = time.Minute
	// maxFolder and maxFlags bound what the configuration adds to a command, in octets:
	// wire relies on a command to fit into the buffer of imapclient.
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
	// Spool keeps the messages until they are sent.
	Spool *spool.Dir
	// Idle is how long an unused connection is kept; a minute by default.
	Idle time.Duration
	// Pool keeps unused connections, together with those of other sinks. If it is
	// nil, the sink has its own pool.
	Pool *remote.Pool
	// Login, unless it is empty, identifies the server and the user. Sinks of a Pool
	// with the same Login share connections, of which a server allows a user only a
	// few.
	Login string
}

// Sink appends to one folder. It implements deliver.Sink. Its connection is kept for a
// while and used again, perhaps by another sink with the same Login.
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

	sem         chan struct{} // a mutex for the connection and the fields below, of capacity 1
	sessionUses int           // how often a session was acquired
	closed      bool          // no connection is kept any more
	failedAt    time.Time     // when a connection last failed
	failure     error         // with this error
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink. It does not connect to the server. If the folder's name or a flag is
// invalid for every server, the error is a *deliver.Error with FaultOperator.
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
	if err := s.setFlags(o.Flags); err != nil {
		return nil, err
	}
	return s, nil
}

// setFlags sets the flags of the sink to those with these names.
func (s *Sink) setFlags(names []string) error {
	size := 0
	for _, name := range names {
		if !isValidFlag(name) {
			return s.refuse(fmt.Sprintf("%#.100q is not a flag", name), nil, `a flag must be \Seen, \Answered, \Flagged, \Deleted, \Draft or a keyword of ASCII without blanks and (){%*"\]`)
		}
		size += len(name) + 1
		if size > maxFlags {
			return s.refuse("too many flags", nil, fmt.Sprintf("flags may have %d octets in all: name fewer", maxFlags))
		}
		s.flags = append(s.flags, imap.Flag(name))
	}
	return nil
}

// isInvalidFolderRune reports whether a rune must not be in the name of a folder. U+FFFD
// stands for text that was lost in an earlier conversion.
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

// accountDigest identifies the server and the user in a promise.
func (s *Sink) accountDigest() string { return digest(folderURL(&s.server, "")) }

// folderURL returns the URL of a folder of a server (RFC 5092), unescaped.
func folderURL(server *remote.Server, folder string) string {
	user := ""
	if server.User != "" {
		user = server.User + "@"
	}
	return "imap://" + user + server.Addr + "/" + folder
}

// Profile implements deliver.Sink. A message arrives once if Settle finds out what became
// of an APPEND. It may arrive twice if its owner moves it before Settle, if the folder was
// created anew, if the server changes messages, or if it still works on an earlier
// connection.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "imap", Target: s.target, Way: s.server.Via.Way(), Guarantee: deliver.AtLeastOnce}
}

// Begin implements deliver.Sink. It connects, logs in and looks for the folder, unless
// another batch is using the connection.
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
		// Another batch uses the connection, and so finds out whether the server works.
		// While we waited for its APPENDs, the connection to the POP3 server would be idle.
	}
	return &batch{Batch: s.spool.Batch(s.target), sink: s}, nil
}

// Check connects, logs in and looks for the folder, and changes nothing. It reports whether
// the folder exists. A missing folder is no error if the sink would create it. The error is
// a *deliver.Error.
func (s *Sink) Check(ctx context.Context) (exists bool, err error) {
	probe := &Sink{server: s.server, folder: s.folder, target: s.target, pool: s.pool, closed: true, sem: make(chan struct{}, 1)}
	probe.key = probe // a key without connections in the pool
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
