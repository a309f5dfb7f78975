package modeltest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// sinkKind is a kind of sink, and what others may do with the mail in it.
type sinkKind struct {
	name string
	open func(disk durable.FS, now func() time.Time) (deliver.Sink, error)
	// read returns the messages that a mail reader sees, or errLocked if it has to wait.
	read func(disk *durabletest.FS) ([]string, error)
	// unique matches the unique part of a file's name.
	unique *regexp.Regexp
	// staging is the folder in which messages are staged. It is empty in the end.
	staging string
	moves   []move
}

// move is something that a mail reader, another program or time may do. do reports whether
// there was anything to do.
type move struct {
	name string
	do   func(*world) bool
	// between is set if it happens only between polls.
	between bool
}

var errLocked = errors.New("the mailbox is locked")

var maildirKind = &sinkKind{
	name: "maildir",
	open: func(disk durable.FS, now func() time.Time) (deliver.Sink, error) {
		return maildir.New("/mail/dir", maildir.Options{FS: disk, Host: "here", Now: now})
	},
	read: func(disk *durabletest.FS) ([]string, error) {
		var mail []string
		for _, m := range mailIn(disk) {
			mail = append(mail, m.text)
		}
		return mail, nil
	},
	unique:  regexp.MustCompile(`^\d+\.M\d+P\d+Q\d+R[0-9a-f]{8}A[0-9a-f]{12}\.here`),
	staging: "/mail/dir/tmp",
	moves: []move{
		{name: "a reader moves all mail to cur/", do: func(w *world) bool {
			moved := false
			for _, m := range mailIn(w.disk) {
				if base := filepath.Base(m.path); !strings.Contains(base, ":") {
					must(w.disk.Rename(m.path, "/mail/dir/cur/"+base+":2,S"))
					moved = true
				}
			}
			return moved
		}},
		{name: "the owner takes all mail away", do: func(w *world) bool {
			mail := mailIn(w.disk)
			// A power cut may have kept both names of a rename. If the owner took
			// one of them, nobody could tell that they were one message.
			if len(mail) == 0 || w.disk.TwoNames() {
				return false
			}
			for _, m := range mail {
				must(w.disk.Remove(m.path))
				w.taken = append(w.taken, m.text)
			}
			// The mail is in its new place durably, and so it has left the old one
			// durably: a file system's journal keeps the order of renames.
			for _, sub := range []string{"cur", "new", "tmp"} {
				must(w.disk.SyncDir("/mail/dir/" + sub))
			}
			return true
		}},
		{name: "the machine is off for two days", between: true, do: func(w *world) bool {
			// After so long, a promise without a file is fetched again, since
			// anybody may have cleaned tmp/. Mail that was taken would come twice.
			if len(w.taken) > 0 || len(w.journal.now().open) == 0 {
				return false
			}
			w.now = w.now.Add(48 * time.Hour)
			return true
		}},
	},
}

// mailFile is a message in new/ or cur/.
type mailFile struct{ path, text string }

// mailIn returns the messages of the Maildir. A file with two names is one message.
func mailIn(disk *durabletest.FS) []mailFile {
	var mail []mailFile
	seen := map[uint64]bool{}
	for _, sub := range []string{"new", "cur"} {
		dir := "/mail/dir/" + sub
		entries, err := disk.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(err)
		for _, e := range entries {
			info, err := e.Info()
			must(err)
			if ino := info.Sys().(*syscall.Stat_t).Ino; !seen[ino] {
				seen[ino] = true
				mail = append(mail, mailFile{filepath.Join(dir, e.Name()), content(disk, filepath.Join(dir, e.Name()))})
			}
		}
	}
	return mail
}

const inbox = "/mail/inbox"

var mboxKind = &sinkKind{
	name: "mbox",
	open: func(disk durable.FS, _ func() time.Time) (deliver.Sink, error) {
		return mbox.New(inbox, mbox.Options{FS: disk, Spool: spool.New("/mail/spool", disk), Host: "here"})
	},
	read:    readInbox,
	unique:  regexp.MustCompile(`^[0-9a-f]{16}-[A-Z2-7]{26}`),
	staging: "/mail/spool",
	moves: []move{
		{name: "the owner takes all mail away", do: locked(func(w *world, mail []string) {
			for _, m := range mail {
				if m != foreignMail {
					w.taken = append(w.taken, m)
				}
			}
			w.foreign = 0
			write(w.disk, inbox, "")
		})},
		{name: "the owner takes the first message and writes the rest anew", do: locked(func(w *world, mail []string) {
			if mail[0] == foreignMail {
				w.foreign--
			} else {
				w.taken = append(w.taken, mail[0])
			}
			write(w.disk, inbox+".new", join(mail[1:]))
			must(w.disk.Rename(inbox+".new", inbox))
			must(w.disk.SyncDir("/mail"))
		})},
		{name: "another program delivers", do: func(w *world) bool {
			mail, err := readInbox(w.disk)
			if err != nil || w.foreign > 0 {
				return false
			}
			w.foreign++
			write(w.disk, inbox, join(append(mail, foreignMail)))
			must(w.disk.SyncDir("/mail"))
			return true
		}},
	},
}

// readInbox reads the mbox as a mail reader that heeds the lock file.
func readInbox(disk *durabletest.FS) ([]string, error) {
	if _, err := disk.Stat(inbox + ".lock"); err == nil {
		return nil, errLocked
	}
	return split(content(disk, inbox))
}

// locked makes a move of what somebody does with the mail while they hold the lock.
func locked(f func(w *world, mail []string)) func(*world) bool {
	return func(w *world) bool {
		mail, err := readInbox(w.disk)
		if err != nil || len(mail) == 0 {
			return false
		}
		f(w, mail)
		return true
	}
}

var fromLine = regexp.MustCompile(`(?m)^From \S+ \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n`)

// split returns the messages of an mbox.
func split(text string) ([]string, error) {
	var mail []string
	starts := fromLine.FindAllStringIndex(text, -1)
	if text != "" && (len(starts) == 0 || starts[0][0] != 0) {
		return nil, errors.New("no From_ line at the beginning")
	}
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		m, ok := strings.CutSuffix(text[at[1]:end], "\n\n")
		if !ok {
			return nil, errors.New("no empty line after a message")
		}
		mail = append(mail, strings.ReplaceAll(m+"\n", "\n>From ", "\nFrom "))
	}
	return mail, nil
}

// join returns an mbox of these messages.
func join(mail []string) string {
	var b strings.Builder
	for _, m := range mail {
		b.WriteString("From me Sun Nov 22 12:00:00 2026\n" + strings.ReplaceAll(m, "\nFrom ", "\n>From ") + "\n")
	}
	return b.String()
}

// content returns the content of a file, or "" if there is none.
func content(disk durable.FS, name string) string {
	f, err := disk.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must(err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(err)
	return string(b)
}

// write makes text all there is in a file, durably.
func write(disk durable.FS, name, text string) {
	f, err := disk.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	must(err)
	defer f.Close()
	_, err = io.WriteString(f, text)
	must(err)
	must(f.Sync())
}

// must stops the test over an error that is the model's own.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
