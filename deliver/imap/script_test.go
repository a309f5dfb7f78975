package imap_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// script is an IMAP server whose answers the test determines.
type script struct {
	greeting string // "* OK hello" if empty
	caps     string // besides IMAP4rev1
	login    string // the answer to a login, "OK" if empty; after an untagged one it hangs up
	// challenge is sent at AUTHENTICATE, before the answer of login.
	challenge string
	// exchange, if not nil, returns the answer to AUTHENTICATE, without the tag. ask
	// sends a line and returns the next line of the client.
	exchange func(command string, ask func(string) string) string
	// consent answers a synchronizing literal (RFC 9051 §4.3). The empty answer accepts it.
	consent func(size int) string
	// interrupt is sent in the middle of a large literal, with the tag of the client for
	// TAG; then the server hangs up. keeps is how many messages it stores all the same.
	interrupt string
	keeps     int
	// answer returns the answer to the n-th APPEND, from 0, without the tag. The empty
	// answer is OK. hang sends nothing, and hangUp closes the connection.
	answer func(n int) string
	// answerMulti returns the answer to an APPEND of several messages. Unless that is OK,
	// none is stored.
	answerMulti func(texts []string) string
	// uids is whether the answers to APPEND have APPENDUID (RFC 4315).
	uids bool
	// replies are the replies to commands, by verb and without the tag.
	replies map[string]string
	// listed is the data of the reply to LIST.
	listed string
	// found is the reply to UID SEARCH, with the tag of the client for %s.
	found string
	// folder, if not nil, returns whether the folder exists.
	folder func() bool

	mu   *sync.Mutex
	idle *sync.Cond // signalled when a session ends
	open int        // sessions
	kept int        // messages stored, if uids
	took []string   // messages stored
	last string     // the last message of an APPEND of one
	head []string   // flags and dates between the messages of one APPEND
	sent []string   // commands of the clients, without their tags
}

const (
	hang   = "hang"    // send nothing
	hangUp = "hang up" // close the connection
)

// start starts the server, which runs until the test ends.
func (s *script) start(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.mu = new(sync.Mutex)
	s.idle = sync.NewCond(s.mu)
	var wg sync.WaitGroup
	over := make(chan struct{})
	t.Cleanup(func() { l.Close(); close(over); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open++
			s.mu.Unlock()
			wg.Go(func() {
				_ = s.serve(conn)
				conn.Close()
				s.mu.Lock()
				s.open--
				s.mu.Unlock()
				s.idle.Broadcast()
			})
			wg.Go(func() { <-over; conn.Close() })
		}
	})
	return l.Addr().String()
}

// serve runs one session.
func (s *script) serve(conn net.Conn) error {
	r := bufio.NewReader(conn)
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	if s.greeting == "" {
		say("* OK hello")
	} else {
		say("%s", s.greeting)
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		tag, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		verb, _, _ := strings.Cut(command, " ")
		s.mu.Lock()
		s.sent = append(s.sent, command)
		s.mu.Unlock()
		if verb == "UID" {
			verb = strings.Join(strings.Fields(command)[:2], " ")
		}
		if own := s.replies[verb]; own != "" {
			say("%s %s", tag, own)
			continue
		}
		switch verb {
		case "LIST":
			if s.listed != "" {
				say("* LIST %s", s.listed)
			}
		case "UID SEARCH":
			if s.found != "" {
				say("* %s", strings.ReplaceAll(s.found, "%s", tag))
			}
		case "CAPABILITY":
			say("* CAPABILITY IMAP4rev1 %s", s.caps)
		case "STARTTLS":
			say("%s BAD no TLS here", tag)
			continue
		case "LOGIN", "AUTHENTICATE":
			if s.exchange != nil {
				say("%s %s", tag, s.exchange(command, func(challenge string) string {
					say("%s", challenge)
					line, _ := r.ReadString('\n')
					return strings.TrimSpace(line)
				}))
				continue
			}
			if s.challenge != "" {
				say("+ %s", s.challenge)
				if _, err := r.ReadString('\n'); err != nil {
					return err
				}
			}
			if strings.HasPrefix(s.login, "* ") {
				say("%s", s.login)
				return nil
			}
			if s.login != "" {
				say("%s %s", tag, s.login)
				continue
			}
		case "STATUS", "EXAMINE":
			if s.folder != nil && !s.folder() {
				say("%s NO [NONEXISTENT] there is none", tag)
				continue
			}
			s.mu.Lock()
			say("* STATUS INBOX (UIDVALIDITY 7 UIDNEXT %d)", s.kept+1)
			s.mu.Unlock()
		case "APPEND":
			answer, err := s.take(r, conn, tag, command)
			if err != nil || answer == hangUp {
				return err
			}
			if answer != "" {
				if answer != hang {
					say("%s", answer)
				}
				continue
			}
		}
		say("%s OK done", tag)
	}
}

// take reads the literals of an APPEND, stores the messages, and returns the answer.
func (s *script) take(r *bufio.Reader, w io.Writer, tag, command string) (answer string, err error) {
	var texts []string
	for strings.HasSuffix(command, "}") {
		size, plus := strings.CutSuffix(strings.TrimSuffix(command[strings.LastIndexByte(command, '{')+1:], "}"), "+")
		n, err := strconv.Atoi(size)
		if err != nil {
			return "", err
		}
		if !plus {
			if s.consent != nil {
				if answer := s.consent(n); answer != "" {
					return tag + " " + answer, nil
				}
			}
			fmt.Fprint(w, "+ go ahead\r\n")
		}
		if part := int64(64 << 10); s.interrupt != "" && int64(n) > part {
			_, err := io.CopyN(io.Discard, r, part)
			s.mu.Lock()
			s.kept += s.keeps
			s.mu.Unlock()
			fmt.Fprint(w, strings.ReplaceAll(s.interrupt, "TAG", tag))
			return hangUp, err
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(r, text); err != nil {
			return "", err
		}
		texts = append(texts, string(text))
		if command, err = r.ReadString('\n'); err != nil {
			return "", err
		}
		if command = strings.TrimSuffix(command, "\r\n"); command != "" {
			s.mu.Lock()
			s.head = append(s.head, command)
			s.mu.Unlock()
		}
	}
	if len(texts) > 1 {
		answer = s.answerMulti(texts)
	} else if s.answer != nil {
		s.mu.Lock()
		nth := len(s.took)
		s.last = texts[0]
		s.mu.Unlock()
		answer = s.answer(nth)
	}
	if len(texts) == 1 || answer == "" || strings.HasPrefix(answer, "OK") {
		s.mu.Lock()
		s.took = append(s.took, texts...)
		s.mu.Unlock()
	}
	if answer == "" && s.uids {
		s.mu.Lock()
		set := strconv.Itoa(s.kept + 1)
		if s.kept += len(texts); len(texts) > 1 {
			set += ":" + strconv.Itoa(s.kept)
		}
		s.mu.Unlock()
		answer = "OK [APPENDUID 7 " + set + "] done"
	}
	if answer == "" || answer == hang || answer == hangUp || strings.HasPrefix(answer, "* ") {
		return answer, nil
	}
	return tag + " " + answer, nil
}

// wait waits until no client is connected.
func (s *script) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.open > 0 {
		s.idle.Wait()
	}
}

// commands returns the commands received so far, one on each line.
func (s *script) commands() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.sent, "\n")
}
