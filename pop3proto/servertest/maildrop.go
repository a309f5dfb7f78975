package servertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Fill puts messages into the user's maildrop, behind those that are there,
// and returns each as a client is to receive it. Messages may end their lines
// in LF or CRLF. They are stored with LF, as a delivery agent leaves them, and
// served with CRLF, the last line included.
func (s *Server) Fill(user string, msgs ...[]byte) [][]byte {
	s.tb.Helper()
	var wire [][]byte
	for _, msg := range msgs {
		stored := s.tag(bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n")))
		s.stored++
		name := fmt.Sprintf("%d.M1P1.servertest", 1_000_000_000+s.stored)
		file := filepath.Join(s.Maildir(user), "new", name)
		if err := os.WriteFile(file, stored, 0o600); err != nil {
			s.tb.Fatal(err)
		}
		if err := s.give(file); err != nil {
			s.tb.Fatal(err)
		}
		wire = append(wire, wireForm(stored))
	}
	return wire
}

// Messages returns what is left in the user's maildrop, oldest first, in the
// form that Fill returned.
func (s *Server) Messages(user string) [][]byte {
	s.tb.Helper()
	msgs := s.messages(user)
	for i, stored := range msgs {
		msgs[i] = wireForm(stored)
	}
	return msgs
}

// messages returns the messages of a user as they are stored, oldest first.
func (s *Server) messages(user string) (msgs [][]byte) {
	s.tb.Helper()
	files, err := filepath.Glob(filepath.Join(s.Maildir(user), "[cn][ue][rw]", "*"))
	if err != nil {
		s.tb.Fatal(err)
	}
	slices.SortFunc(files, func(a, b string) int {
		return strings.Compare(filepath.Base(a), filepath.Base(b))
	})
	for _, file := range files {
		stored, err := os.ReadFile(file)
		if err != nil {
			s.tb.Fatal(err)
		}
		msgs = append(msgs, stored)
	}
	return msgs
}

// wireForm returns a stored message with its lines ended as on the wire.
func wireForm(stored []byte) []byte {
	wire := bytes.ReplaceAll(stored, []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(wire, []byte("\r\n")) {
		wire = append(wire, "\r\n"...)
	}
	return wire
}

// Maildir is where the user's mail is. All servers are told to look there.
func (s *Server) Maildir(user string) string {
	return filepath.Join(s.home(user), "INBOX")
}

func (s *Server) home(user string) string {
	return filepath.Join(s.dir, "home", user)
}

func (s *Server) makeMaildir(user string) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.Maildir(user), sub), 0o700); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(s.dir, "home"), 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(s.home(user), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return s.give(path)
	})
}

// give makes the owner of the maildrops the owner of path.
func (s *Server) give(path string) error {
	if os.Getuid() != 0 {
		return nil // the test is the owner
	}
	return os.Chown(path, s.uid, s.gid)
}
