//go:build linux && amd64

package crashtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// readMail returns all messages that the owner of the mail can see, wherever they were
// moved since.
func (w *world) readMail() ([]string, error) {
	if w.sink == "mbox" {
		mail, err := w.readMbox(false)
		return append(mail, w.taken...), err
	}
	var mail []string
	for _, folder := range []string{"Maildir/new", "Maildir/cur", "archive"} {
		entries, err := os.ReadDir(w.path(folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			text, err := os.ReadFile(w.path(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			mail = append(mail, string(text))
		}
	}
	return mail, nil
}

// handleMail does what the owner of the mail may do at any time: nothing, read some of it,
// or move it away.
func (w *world) handleMail() error {
	act := rand.N(3)
	switch {
	case act == 0:
		return nil
	case w.sink == "mbox":
		if act == 1 {
			return nil
		}
		mail, err := w.readMbox(true)
		w.taken = append(w.taken, mail...)
		return err
	}
	if err := os.MkdirAll(w.path("archive"), 0o700); err != nil {
		return err
	}
	names, err := filepath.Glob(w.path("Maildir/new/*"))
	for _, name := range names {
		to := w.path("Maildir/cur", filepath.Base(name)+":2,S")
		if act == 2 {
			to = w.path("archive", filepath.Base(name))
		}
		err = errors.Join(err, os.Rename(name, to))
	}
	return err
}

// readMbox reads the mbox as a mail reader that heeds the lock file and fcntl locks, and
// empties it if take is set. While it is locked, there is no message to be seen.
func (w *world) readMbox(take bool) ([]string, error) {
	lock, err := os.OpenFile(w.path("mbox/inbox.lock"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer os.Remove(lock.Name())
	defer lock.Close()
	mbox, err := os.OpenFile(w.path("mbox/inbox"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer mbox.Close()
	err = unix.FcntlFlock(mbox.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(mbox)
	if err != nil {
		return nil, err
	}
	if take {
		err = mbox.Truncate(0)
	}
	return split(string(text)), err
}

// split returns the messages of an mbox, each from its From_ line to the empty line before
// the next. Text that is no whole message is returned as a message that nobody sent.
func split(mbox string) []string {
	var mail []string
	var text strings.Builder
	begun := false
	end := func() {
		whole, ok := strings.CutSuffix(text.String(), "\n")
		if !ok {
			whole += "(not ended)"
		}
		if begun {
			mail = append(mail, whole)
		}
		text.Reset()
	}
	for line := range strings.Lines(mbox) {
		if strings.HasPrefix(line, "From ") {
			end()
			begun = true
			continue
		}
		if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") {
			line = line[1:]
		}
		begun = true
		text.WriteString(line)
	}
	end()
	return mail
}

// verdict counts what went wrong.
type verdict struct{ lost, duplicated, torn, stuck int }

func (v *verdict) add(more verdict) {
	v.lost += more.lost
	v.duplicated += more.duplicated
	v.torn += more.torn
	v.stuck += more.stuck
}

// compare compares the mail with what was sent. A message counts as lost only if all
// should be there.
func (w *world) compare(mail []string, complete bool) (v verdict, found []string) {
	copies := make([]int, len(w.sent))
	for _, text := range mail {
		i, ok := w.sent[text]
		if !ok {
			v.torn++
			found = append(found, fmt.Sprintf("torn: %d bytes, %.60q", len(text), text))
			continue
		}
		copies[i]++
	}
	for i, n := range copies {
		switch {
		case n == 0 && complete:
			v.lost++
			found = append(found, fmt.Sprintf("message %d is lost", i))
		case n > 1:
			v.duplicated += n - 1
			found = append(found, fmt.Sprintf("message %d is there %d times", i, n))
		}
	}
	return v, found
}
