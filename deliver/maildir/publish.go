package maildir

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver"
)

// publish moves a message from tmp/ to new/, where mail readers see it. It renames the
// file instead of linking it: that works on file systems without hard links, and the
// message never has two names.
func (s *Sink) publish(tmp, final string) error {
	err := s.fs.Rename(tmp, final)
	if errors.Is(err, syscall.EXDEV) {
		return s.operatorError("move a message from tmp/ to new/", err,
			"tmp/ and new/ must be on one file system: mount or link the Maildir as a whole")
	}
	if err != nil {
		return s.osError("move a message from tmp/ to new/", err)
	}
	return nil
}

// exists reports whether a file certainly exists.
func (s *Sink) exists(name string) bool {
	_, err := s.fs.Stat(name)
	return err == nil
}

// newMissingError is the error of a Commit that cannot publish a message because new/
// is missing. The message stays in tmp/ and waits for Settle.
func (s *Sink) newMissingError(err error) error {
	return &deliver.Error{
		Fault: deliver.FaultTemporary, Target: s.dir, Op: "new/ is gone", Err: errors.Unwrap(err),
		Hint: "it is made again and the message delivered; find out who has removed it",
	}
}

// newRemovedError is the error of a message that was removed from tmp/ before Commit; err
// is that of publish.
func (s *Sink) newRemovedError(err error) error {
	return &deliver.Error{
		Fault: deliver.FaultTemporary, Target: s.dir, Op: "move a message from tmp/ to new/", Err: errors.Unwrap(err),
		Hint: "a program that cleans tmp/ has removed it: let it spare what is younger than 36 hours; the message is fetched again",
	}
}

// syncMoves makes the moves from tmp/ to new/ durable. It syncs new/ first, so that no
// power cut can take both names of a message.
func (s *Sink) syncMoves() error { return s.syncFolders("new", "tmp") }

// syncFolders makes the names in these folders of the Maildir durable.
func (s *Sink) syncFolders(folders ...string) error {
	for _, sub := range folders {
		if err := s.fs.SyncDir(s.path(sub)); err != nil {
			return s.osError("sync "+sub+"/", err)
		}
	}
	return nil
}

// isNotExist reports whether err says that a file or folder does not exist. ENOTDIR
// means that a file has taken the place of a folder.
func isNotExist(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
