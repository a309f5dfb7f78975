package servertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// AddMessages appends messages to the user's maildrop, and returns each as a client must
// receive it. Lines may end in LF or CRLF. They are stored with LF, as delivery agents do,
// and served with CRLF, including the last one.
func (s *Server) AddMessages(user string, msgs ...[]byte) [][]byte {
	s.tb.Helper()
	var wire [][]byte
	for _, msg := range msgs {
		stored := s.addFields(bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n")))
		s.messages++
		name := fmt.Sprintf("%d.M1P1.servertest", 1_000_000_000+s.messages)
		file := filepath.Join(s.Maildir(user), "new", name)
		if err := os.WriteFile(file, stored, 0o600); err != nil {
			s.tb.Fatal(err)
		}
		if err := s.chown(file); err != nil {
			s.tb.Fatal(err)
		}
		wire = append(wire, wireForm(stored))
	}
	return wire
}

// Messages returns the messages in the user's maildrop, oldest first, in the form that
// AddMessages returns.
func (s *Server) Messages(user string) [][]byte {
	s.tb.Helper()
	msgs := s.storedMessages(user)
	for i, stored := range msgs {
		msgs[i] = wireForm(stored)
	}
	return msgs
}

// WaitForMessages waits until want messages have been delivered to the user, and returns
// them with LF line ends and without the header fields that the server added. It fails the
// test if they do not arrive within a minute.
func (s *Server) WaitForMessages(user string, want int) (msgs []string) {
	s.tb.Helper()
	err := retry(context.Background(), func(context.Context) error {
		stored := s.storedMessages(user)
		if len(stored) < want {
			return fmt.Errorf("%s has %d messages, want %d", user, len(stored), want)
		}
		for _, msg := range stored {
			msgs = append(msgs, withoutTraceFields(string(msg)))
		}
		return nil
	})
	if err != nil {
		s.tb.Fatalf("%v\n%s", err, s.log())
	}
	return msgs
}

// withoutTraceFields removes the fields that a server adds before a message: Return-Path,
// the recipient, and one Received field, which is folded.
func withoutTraceFields(msg string) string {
	for _, name := range []string{"Return-Path: ", "X-Original-To: ", "Delivered-To: "} {
		if line, rest, ok := strings.Cut(msg, "\n"); ok && strings.HasPrefix(line, name) {
			msg = rest
		}
	}
	if !strings.HasPrefix(msg, "Received: ") {
		return msg
	}
	_, msg, _ = strings.Cut(msg, "\n")
	for strings.HasPrefix(msg, "\t") || strings.HasPrefix(msg, " ") {
		_, msg, _ = strings.Cut(msg, "\n")
	}
	return msg
}

// storedMessages returns the user's messages as they are stored, oldest first.
func (s *Server) storedMessages(user string) (msgs [][]byte) {
	s.tb.Helper()
	files, err := filepath.Glob(filepath.Join(s.Maildir(user), "[cn][ue][rw]", "*")) // in cur and new
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

// wireForm returns a stored message with CRLF at the end of all lines.
func wireForm(stored []byte) []byte {
	wire := bytes.ReplaceAll(stored, []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(wire, []byte("\r\n")) {
		wire = append(wire, "\r\n"...)
	}
	return wire
}

// Maildir returns the path of the user's Maildir. Each server is configured to use it.
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
		return s.chown(path)
	})
}

// chown makes the owner of the maildrops the owner of path.
func (s *Server) chown(path string) error {
	if os.Getuid() != 0 {
		return nil // the test runs as the owner
	}
	return os.Chown(path, s.uid, s.gid)
}
