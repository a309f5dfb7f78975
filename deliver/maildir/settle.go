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

// patience is how long a message that is nowhere to be found is taken for one
// that its owner has moved. The Maildir specification lets anybody remove
// files from tmp/ once they are 36 hours old; until then only Commit takes a
// message from there.
const patience = 36 * time.Hour

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

// token returns what the tokens of all messages in tmp/ have in common.
func (s *Sink) token() (token, error) {
	ino, err := s.tmpInode()
	if err != nil {
		return token{}, s.fail("open tmp/", err)
	}
	return token{Dir: durable.EscapePath(s.dir), Tmp: ino}, nil
}

// of returns the token of the message with that name in new/, as text.
func (t token) of(final string) string {
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
	if json.Unmarshal([]byte(s), &t) != nil || !ours.MatchString(t.Name) || strings.Contains(t.Name, "/") {
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
		return deliver.Unknown, s.fail("settle", err)
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
		t.Tmp = noInode
		return s.settle(t)
	}
	return verdict, err
}

// noInode is that of no folder.
const noInode = math.MaxUint64

func (s *Sink) settle(t token) (deliver.Verdict, error) {
	ino, err := s.tmpInode()
	without := absent(err)
	if err != nil && !without {
		return deliver.Unknown, s.fail("open tmp/", err)
	}
	tmp := s.file("tmp", staged(t.Name))
	// What is found, or missing, may be so in the cache only.
	if err = s.sync(folders...); absent(err) {
		switch there, unseen := s.delivered(t.Name); {
		case unseen != nil:
			return deliver.Unknown, unseen
		case there || s.has(tmp):
			// Begin would make what is missing, but may be long in coming. Programs that
			// carry folders from disk to disk leave out those that are empty.
			if err = s.create(s.dir); err == nil {
				err = s.sync(folders...)
			}
		case without:
			return deliver.Unknown, nil // the Maildir is gone
		}
	}
	if err != nil {
		return deliver.Unknown, err
	}
	delivered, err := s.delivered(t.Name)
	if err != nil {
		return deliver.Unknown, err
	}
	_, err = s.fs.Stat(tmp)
	waiting := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return deliver.Unknown, s.fail("look into tmp/", err)
	}
	switch {
	case delivered && waiting:
		// A power cut may keep both names of a rename. A mail reader has
		// seen one of them already.
		if err := s.fs.Remove(tmp); err != nil {
			return deliver.Unknown, s.fail("remove a message from tmp/", err)
		}
		if err := s.sync("tmp"); err != nil {
			return deliver.Unknown, err
		}
	case waiting:
		if err := s.publish(tmp, s.file("new", t.Name)); err != nil {
			return deliver.Unknown, err
		}
		if err := s.syncPublished(); err != nil {
			return deliver.Unknown, err
		}
	case delivered:
	case ino != t.Tmp:
		return deliver.Unknown, nil
	case s.now().Sub(madeAt(t.Name)) >= patience:
		return deliver.NotLanded, nil
	}
	return deliver.Landed, nil
}

// delivered reports whether a message is in new/, or in cur/ with any flags.
func (s *Sink) delivered(final string) (bool, error) {
	if _, err := s.fs.Stat(s.file("new", final)); err == nil {
		return true, nil
	} else if !absent(err) {
		return false, s.fail("look into new/", err)
	}
	entries, err := s.fs.ReadDir(s.path("cur"))
	if absent(err) {
		return false, nil
	} else if err != nil {
		return false, s.fail("list cur/", err)
	}
	for _, e := range entries {
		if name, _, _ := strings.Cut(e.Name(), ":"); name == final {
			return true, nil
		}
	}
	return false, nil
}

// absent reports whether an error says that there is no such file or folder.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// publish shows a message to mail readers. It is a rename and not a link: file
// systems without hard links can do it, and there is no moment with two names.
func (s *Sink) publish(tmp, place string) error {
	err := s.fs.Rename(tmp, place)
	if errors.Is(err, syscall.EXDEV) {
		return s.refuse("move a message from tmp/ to new/", err,
			"tmp/ and new/ must be on one file system: mount or link the Maildir as a whole")
	}
	if err != nil {
		return s.fail("move a message from tmp/ to new/", err)
	}
	return nil
}

// has reports whether a file is there for certain.
func (s *Sink) has(name string) bool {
	_, err := s.fs.Stat(name)
	return err == nil
}

// withoutNew makes an error of that of publish for a message that is in tmp/, where
// it waits for Settle.
func (s *Sink) withoutNew(err error) error {
	return &deliver.Error{
		Fault: deliver.FaultTemporary, Target: s.dir, Op: "new/ is gone", Err: errors.Unwrap(err),
		Hint: "it is made again and the message delivered; find out who has removed it",
	}
}

// syncPublished makes the moves from tmp/ to new/ durable. new/ comes first,
// so that there is no moment at which a power cut could take both names.
func (s *Sink) syncPublished() error { return s.sync("new", "tmp") }

// sync makes the names in some of the folders durable.
func (s *Sink) sync(folders ...string) error {
	for _, sub := range folders {
		if err := s.fs.SyncDir(s.path(sub)); err != nil {
			return s.fail("sync "+sub+"/", err)
		}
	}
	return nil
}

// madeAt tells when a name was made.
func madeAt(name string) time.Time {
	seconds, _, _ := strings.Cut(name, ".")
	n, _ := strconv.ParseInt(seconds, 10, 64)
	return time.Unix(n, 0)
}

// Sweep implements deliver.Sink: it removes the files of account from tmp/.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.fail("sweep", err)
	}
	entries, err := s.fs.ReadDir(s.path("tmp"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return s.fail("list tmp/", err)
	}
	mark := s.mark(account)
	for _, e := range entries {
		m := ours.FindStringSubmatch(e.Name())
		if m == nil || m[1] != mark && m[1] != probeMark {
			continue
		}
		if err := s.fs.Remove(s.file("tmp", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.fail("remove a message from tmp/", err)
		}
	}
	return nil
}
