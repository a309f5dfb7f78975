package maildir

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// tmpLifetime is how long a message that is nowhere to be found is taken for one
// that its owner has moved. The Maildir specification lets anybody remove
// files from tmp/ once they are 36 hours old; until then only Commit takes a
// message from there.
const tmpLifetime = 36 * time.Hour

// token is what a promise holds, as JSON.
type token struct {
	// Dir is the Maildir, escaped, since the sink may have another when Settle
	// is asked.
	Dir string `json:"dir"`
	// Tmp is the inode of its tmp/. If there is another in its place, as when
	// a disk is not mounted, a message that is missing proves nothing.
	Tmp uint64 `json:"tmp"`
	// Name is the file's name in new/. It tells the one in tmp/, and the time.
	Name string `json:"name"`
}

// newToken returns what the tokens of all messages in tmp/ have in common.
func (s *Sink) newToken() (token, error) {
	ino, err := s.tmpInode()
	if err != nil {
		return token{}, s.osError("open tmp/", err)
	}
	return token{Dir: durable.EscapePath(s.dir), Tmp: ino}, nil
}

// forMessage returns the token of the message with that name in new/, as text.
func (t token) forMessage(final string) string {
	t.Name = final
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return string(text)
}

func (s *Sink) tmpInode() (uint64, error) {
	info, err := s.fs.Stat(s.path("tmp"))
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil
	}
	return st.Ino, nil
}

// parseToken returns the token and its Maildir unescaped.
func parseToken(s string) (t token, dir string, ok bool) {
	if json.Unmarshal([]byte(s), &t) != nil || !namePattern.MatchString(t.Name) || strings.Contains(t.Name, "/") {
		return token{}, "", false
	}
	dir, ok = durable.UnescapePath(t.Dir)
	return t, dir, ok
}

// Made implements deliver.Sink.
func (s *Sink) Made(promise string) bool {
	_, dir, ok := parseToken(promise)
	return ok && dir == s.dir
}

// Settle implements deliver.Sink. It finishes the delivery of a message that
// is still in tmp/.
func (s *Sink) Settle(ctx context.Context, promise string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, s.osError("settle", err)
	}
	t, dir, ok := parseToken(promise)
	if !ok {
		return deliver.Unknown, nil // not ours
	}
	at := &Sink{fs: s.fs, dir: dir, now: s.now}
	verdict, err := at.settle(t)
	if verdict == deliver.Unknown && err == nil && dir != s.dir {
		// The Maildir may have been moved to where the sink has its own now. If the
		// message is missing there, that proves nothing.
		t.Tmp = unknownInode
		return s.settle(t)
	}
	return verdict, err
}

// unknownInode is that of no folder.
const unknownInode = math.MaxUint64

func (s *Sink) settle(t token) (deliver.Verdict, error) {
	ino, err := s.tmpInode()
	without := isNotExist(err)
	if err != nil && !without {
		return deliver.Unknown, s.osError("open tmp/", err)
	}
	tmp := s.filePath("tmp", tmpName(t.Name))
	// What is found, or missing, may be so in the cache only.
	if err = s.syncFolders(folders...); isNotExist(err) {
		switch there, unseen := s.isDelivered(t.Name); {
		case unseen != nil:
			return deliver.Unknown, unseen
		case there || s.exists(tmp):
			// Begin would make what is missing, but may be long in coming. Programs that
			// carry folders from disk to disk leave out those that are empty.
			if err = s.ensureFolder(s.dir); err == nil {
				err = s.syncFolders(folders...)
			}
		case without:
			return deliver.Unknown, nil // the Maildir is gone
		}
	}
	if err != nil {
		return deliver.Unknown, err
	}
	delivered, err := s.isDelivered(t.Name)
	if err != nil {
		return deliver.Unknown, err
	}
	_, err = s.fs.Stat(tmp)
	waiting := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return deliver.Unknown, s.osError("look into tmp/", err)
	}
	switch {
	case delivered && waiting:
		// A power cut may keep both names of a rename. A mail reader has
		// seen one of them already.
		if err := s.fs.Remove(tmp); err != nil {
			return deliver.Unknown, s.osError("remove a message from tmp/", err)
		}
		if err := s.syncFolders("tmp"); err != nil {
			return deliver.Unknown, err
		}
	case waiting:
		if err := s.publish(tmp, s.filePath("new", t.Name)); err != nil {
			return deliver.Unknown, err
		}
		if err := s.syncMoves(); err != nil {
			return deliver.Unknown, err
		}
	case delivered:
	case ino != t.Tmp:
		return deliver.Unknown, nil
	case s.now().Sub(nameTime(t.Name)) >= tmpLifetime:
		return deliver.NotLanded, nil
	}
	return deliver.Landed, nil
}

// isDelivered reports whether a message is in new/, or in cur/ with any flags.
func (s *Sink) isDelivered(final string) (bool, error) {
	if _, err := s.fs.Stat(s.filePath("new", final)); err == nil {
		return true, nil
	} else if !isNotExist(err) {
		return false, s.osError("look into new/", err)
	}
	entries, err := s.fs.ReadDir(s.path("cur"))
	if isNotExist(err) {
		return false, nil
	} else if err != nil {
		return false, s.osError("list cur/", err)
	}
	for _, e := range entries {
		if name, _, _ := strings.Cut(e.Name(), ":"); name == final {
			return true, nil
		}
	}
	return false, nil
}

// isNotExist reports whether an error says that there is no such file or folder.
func isNotExist(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// publish shows a message to mail readers. It is a rename and not a link: file
// systems without hard links can do it, and there is no moment with two names.
func (s *Sink) publish(tmp, place string) error {
	err := s.fs.Rename(tmp, place)
	if errors.Is(err, syscall.EXDEV) {
		return s.operatorError("move a message from tmp/ to new/", err,
			"tmp/ and new/ must be on one file system: mount or link the Maildir as a whole")
	}
	if err != nil {
		return s.osError("move a message from tmp/ to new/", err)
	}
	return nil
}

// exists reports whether a file is there for certain.
func (s *Sink) exists(name string) bool {
	_, err := s.fs.Stat(name)
	return err == nil
}

// newMissingError makes an error of that of publish for a message that is in tmp/, where
// it waits for Settle.
func (s *Sink) newMissingError(err error) error {
	return &deliver.Error{
		Fault: deliver.FaultTemporary, Target: s.dir, Op: "new/ is gone", Err: errors.Unwrap(err),
		Hint: "it is made again and the message delivered; find out who has removed it",
	}
}

// syncMoves makes the moves from tmp/ to new/ durable. new/ comes first,
// so that there is no moment at which a power cut could take both names.
func (s *Sink) syncMoves() error { return s.syncFolders("new", "tmp") }

// syncFolders makes the names in some of the folders durable.
func (s *Sink) syncFolders(folders ...string) error {
	for _, sub := range folders {
		if err := s.fs.SyncDir(s.path(sub)); err != nil {
			return s.osError("sync "+sub+"/", err)
		}
	}
	return nil
}

// nameTime tells when a name was made.
func nameTime(name string) time.Time {
	seconds, _, _ := strings.Cut(name, ".")
	n, _ := strconv.ParseInt(seconds, 10, 64)
	return time.Unix(n, 0)
}

// Sweep implements deliver.Sink: it removes the files of account from tmp/.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.osError("sweep", err)
	}
	entries, err := s.fs.ReadDir(s.path("tmp"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return s.osError("list tmp/", err)
	}
	mark := s.accountTag(account)
	for _, e := range entries {
		m := namePattern.FindStringSubmatch(e.Name())
		if m == nil || m[1] != mark && m[1] != probeTag {
			continue
		}
		if err := s.fs.Remove(s.filePath("tmp", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.osError("remove a message from tmp/", err)
		}
	}
	return nil
}
