package maildir

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
)

// tmpLifetime is the age at which the Maildir specification lets anybody remove a file
// from tmp/. A younger message that is missing there was delivered by Commit, and if
// it is nowhere else either, its owner has moved it.
const tmpLifetime = 36 * time.Hour

// Settle implements deliver.Sink. It completes the delivery of a message that is still
// in tmp/.
func (s *Sink) Settle(ctx context.Context, promise string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, s.osError("settle", err)
	}
	t, dir, ok := parseToken(promise)
	if !ok {
		return deliver.Unknown, nil
	}
	promisedIn := &Sink{fs: s.fs, dir: dir, now: s.now}
	verdict, err := promisedIn.settle(t)
	if verdict == deliver.Unknown && err == nil && dir != s.dir {
		// The Maildir may have been moved to the path that the sink has now. If the
		// message is missing there, that proves nothing.
		t.Tmp = unknownInode
		return s.settle(t)
	}
	return verdict, err
}

// unknownInode is an inode number that no folder has.
const unknownInode = math.MaxUint64

// settle answers for a message that was promised in the Maildir s.dir.
func (s *Sink) settle(t token) (deliver.Verdict, error) {
	inode, err := s.tmpInode()
	tmpIsMissing := isNotExist(err)
	if err != nil && !tmpIsMissing {
		return deliver.Unknown, s.osError("open tmp/", err)
	}
	// Sync first: what is found, or is missing, may be so only in the cache.
	err = s.syncFolders(folders...)
	if isNotExist(err) {
		switch found, ferr := s.restoreFolders(t.Name); {
		case ferr != nil:
			return deliver.Unknown, ferr
		case found:
			err = nil
		case tmpIsMissing:
			return deliver.Unknown, nil // the Maildir is gone
		}
	}
	if err != nil {
		return deliver.Unknown, err
	}
	isDelivered, err := s.isDelivered(t.Name)
	if err != nil {
		return deliver.Unknown, err
	}
	tmp := s.filePath("tmp", tmpName(t.Name))
	isInTmp, err := s.isInTmp(tmp)
	if err != nil {
		return deliver.Unknown, err
	}
	switch {
	case isInTmp && isDelivered:
		err = s.removeOldName(tmp)
	case isInTmp:
		if err = s.publish(tmp, s.filePath("new", t.Name)); err == nil {
			err = s.syncMoves()
		}
	case isDelivered:
	case inode != t.Tmp:
		return deliver.Unknown, nil // this may be another Maildir
	case s.now().Sub(nameTime(t.Name)) >= tmpLifetime:
		return deliver.NotLanded, nil
	default: // its owner has moved it
	}
	if err != nil {
		return deliver.Unknown, err
	}
	return deliver.Landed, nil
}

// restoreFolders creates those of new/, cur/ and tmp/ that are missing, if the message
// is in one of the others, and syncs them. Programs that copy a Maildir to another
// disk may leave out empty folders. Begin would create them, too, but may not be called
// for a long time. found is false, and nothing is done, if the message is not there.
func (s *Sink) restoreFolders(final string) (found bool, err error) {
	found, err = s.isDelivered(final)
	if err != nil {
		return false, err
	}
	if !found && !s.exists(s.filePath("tmp", tmpName(final))) {
		return false, nil
	}
	if err := s.ensureFolder(s.dir); err != nil {
		return true, err
	}
	return true, s.syncFolders(folders...)
}

// removeOldName removes the name in tmp/ of a message that is in new/ or cur/ as well.
// A power cut may keep both names of a rename, and a mail reader has seen the other.
func (s *Sink) removeOldName(tmp string) error {
	if err := s.fs.Remove(tmp); err != nil {
		return s.osError("remove a message from tmp/", err)
	}
	return s.syncFolders("tmp")
}

// isInTmp reports whether a file in tmp/ exists.
func (s *Sink) isInTmp(tmp string) (bool, error) {
	_, err := s.fs.Stat(tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, s.osError("look into tmp/", err)
	}
	return true, nil
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
	tag := s.accountTag(account)
	for _, e := range entries {
		m := namePattern.FindStringSubmatch(e.Name())
		if m == nil || m[1] != tag && m[1] != probeTag {
			continue
		}
		if err := s.fs.Remove(s.filePath("tmp", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.osError("remove a message from tmp/", err)
		}
	}
	return nil
}
