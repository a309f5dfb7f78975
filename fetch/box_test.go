package fetch_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// box is an IMAP server with one folder, and with trouble as chance has it.
type box struct {
	*rand.Rand
	caps   string
	search string // what SEARCH finds: "", "nothing", "all", or what it is refused with
	noUIDs bool   // APPENDUID is not told
	partly bool   // what fits of an APPEND stays, though it is refused
	poison string // the answer to a message with POISON in it, if there is one
	note   func(format string, args ...any)

	mu       sync.Mutex
	idle     sync.Cond // signalled when a session ends
	sessions int
	validity int // 0 if there is no folder
	next     int
	mail     map[int]string // by UID
	came     map[string]int // how often a message has come
	quota    int            // octets; 0 is no limit
	troubles int            // how many are to come
	odds     int            // of one at a command, in percent
	heard    func(verb string)
}

// startBox starts a server, until the test ends, and returns its address.
func startBox(t *testing.T, b *box) (addr string) {
	t.Helper()
	b.idle.L, b.came = &b.mu, map[string]int{}
	b.create()
	return listen(t, func(conn net.Conn) {
		b.mu.Lock()
		b.sessions++
		b.mu.Unlock()
		s := &boxSession{b, conn, bufio.NewReader(conn)}
		s.serve()
		conn.Close()
		b.mu.Lock()
		b.sessions--
		b.mu.Unlock()
		b.idle.Broadcast()
	})
}

// wait waits until nobody is connected: else it may still work on what a client sent
// that is gone.
func (b *box) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.sessions > 0 {
		b.idle.Wait()
	}
}

// create makes the folder anew.
func (b *box) create() {
	b.validity, b.next, b.mail = b.validity+1, 1, map[int]string{}
}

// renumber gives the folder another UIDVALIDITY.
func (b *box) renumber() {
	old := b.mail
	b.create()
	for _, uid := range sortedKeys(old) {
		b.put(old[uid])
	}
}

func (b *box) put(text string) (uid int) {
	uid = b.next
	b.mail[uid] = text
	b.next++
	return uid
}

// octets are those of all messages.
func (b *box) octets() (n int) {
	for _, text := range b.mail {
		n += len(text)
	}
	return n
}

func sortedKeys[V any](m map[int]V) (keys []int) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type boxSession struct {
	*box
	conn net.Conn
	r    *bufio.Reader
}

func (s *boxSession) say(format string, args ...any) {
	fmt.Fprintf(s.conn, format+"\r\n", args...)
}

// trouble says what goes wrong with a command: it is cut before it is obeyed or
// before it is answered, with or without a farewell, or refused.
func (s *boxSession) trouble(verb string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard != nil {
		s.heard(verb)
	}
	if s.troubles == 0 || s.IntN(100) >= s.odds || verb == "LOGOUT" {
		return ""
	}
	s.troubles--
	all := []string{"cut", "lost", "bye", "lost bye", "BAD", "NO", "NO [UNAVAILABLE]", "NO [INUSE]", "NO [LIMIT]", "NO [NOPERM]"}
	if verb == "APPEND" {
		all = append(all, "NO [OVERQUOTA]", "NO [TRYCREATE]", "NO [ALREADYEXISTS]", "half", "half", "lost", "lost", "lost")
	}
	what := all[s.IntN(len(all))]
	s.note("    %s: %s", verb, what)
	return what
}

func (s *boxSession) serve() {
	s.say("* OK hello")
	for {
		line, err := s.r.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, "\r\n") {
			return
		}
		tag, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		verb, args, _ := strings.Cut(command, " ")
		if verb == "UID" {
			more, rest, _ := strings.Cut(args, " ")
			verb, args = "UID "+more, rest
		}
		what := s.trouble(verb)
		var texts []string
		if verb == "APPEND" && what != "cut" && what != "bye" {
			if texts, err = s.literals(args, what == "half"); err != nil {
				return
			}
		}
		answer := what
		if s.poison != "" && strings.Contains(strings.Join(texts, ""), "POISON") {
			what, answer = s.poison, s.poison
		}
		if what == "" || strings.HasPrefix(what, "lost") {
			answer = s.obey(verb, args, texts)
		}
		if strings.HasSuffix(what, "bye") {
			s.say("* BYE going down")
		}
		if slices.Contains([]string{"cut", "lost", "bye", "lost bye", "half"}, what) {
			return
		}
		s.say("%s %s so it is", tag, answer)
		if verb == "LOGOUT" {
			return
		}
	}
}

// literals reads the messages of an APPEND, or half of the first.
func (s *boxSession) literals(args string, half bool) (texts []string, err error) {
	for args != "" {
		size, plus := strings.CutSuffix(strings.TrimSuffix(args[strings.LastIndexByte(args, '{')+1:], "}"), "+")
		n, err := strconv.Atoi(size)
		if err != nil {
			return nil, err
		}
		if !plus {
			s.say("+ go ahead")
		}
		text := make([]byte, n)
		if half {
			_, _ = io.ReadFull(s.r, text[:n/2])
			return nil, io.ErrUnexpectedEOF
		}
		if _, err := io.ReadFull(s.r, text); err != nil {
			return nil, err
		}
		if args, err = s.r.ReadString('\n'); err != nil {
			return nil, err
		}
		args = strings.TrimSuffix(args, "\r\n")
		texts = append(texts, string(text))
	}
	return texts, nil
}

// obey returns the answer to a command.
func (s *boxSession) obey(verb, args string, texts []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	folder := slices.Contains([]string{"STATUS", "EXAMINE", "APPEND", "UID SEARCH", "UID FETCH"}, verb)
	switch {
	case folder && s.mail == nil && verb == "APPEND":
		return "NO [TRYCREATE]"
	case folder && s.mail == nil:
		return "NO [NONEXISTENT]"
	}
	switch verb {
	case "CAPABILITY":
		s.say("* CAPABILITY IMAP4rev1 %s", s.caps)
	case "CREATE":
		if s.mail != nil {
			return "NO [ALREADYEXISTS]"
		}
		s.create()
	case "LIST":
		if s.mail != nil {
			s.say(`* LIST () "/" INBOX`)
		}
	case "STATUS":
		s.say("* STATUS INBOX (UIDVALIDITY %d UIDNEXT %d)", s.validity, s.next)
	case "EXAMINE":
		s.say("* %d EXISTS\r\n* OK [UIDVALIDITY %d]\r\n* OK [UIDNEXT %d]", len(s.mail), s.validity, s.next)
	case "APPEND":
		if s.quota > 0 && !s.partly && s.octets()+len(strings.Join(texts, "")) > s.quota {
			return "NO [OVERQUOTA]"
		}
		uids := strconv.Itoa(s.next)
		for _, text := range texts {
			if s.quota > 0 && s.octets()+len(text) > s.quota {
				return "NO [OVERQUOTA]"
			}
			s.came[text]++
			s.put(text)
		}
		if len(texts) > 1 {
			uids += ":" + strconv.Itoa(s.next-1)
		}
		if strings.Contains(s.caps, "UIDPLUS") && !s.noUIDs {
			return fmt.Sprintf("OK [APPENDUID %d %s]", s.validity, uids)
		}
	case "UID SEARCH":
		return s.find(args)
	case "UID FETCH":
		set, items, _ := strings.Cut(args, " ")
		for i, uid := range sortedKeys(s.mail) {
			switch head := s.mail[uid]; {
			case !within(set, uid):
			case strings.Contains(items, "SIZE"):
				s.say("* %d FETCH (UID %d RFC822.SIZE %d)", i+1, uid, len(head))
			default:
				head = head[:min(len(head), 16<<10)]
				s.say("* %d FETCH (UID %d BODY[]<0> {%d}\r\n%s)", i+1, uid, len(head), head)
			}
		}
	}
	return "OK"
}

// find obeys a SEARCH for a Message-ID.
func (s *boxSession) find(args string) string {
	var found strings.Builder
	for _, uid := range sortedKeys(s.mail) {
		words := strings.Split(args, `"`)
		switch s.search {
		case "all":
			fmt.Fprint(&found, " ", uid)
		case "":
			if strings.Contains(s.mail[uid], words[len(words)-2]) {
				fmt.Fprint(&found, " ", uid)
			}
		case "nothing":
		default:
			return s.search
		}
	}
	s.say("* SEARCH%s", found.String())
	return "OK"
}

// within reports whether a set of UIDs has one.
func within(set string, uid int) bool {
	for part := range strings.SplitSeq(set, ",") {
		first, last, ranged := strings.Cut(part, ":")
		from, _ := strconv.Atoi(first)
		to, err := strconv.Atoi(last)
		if uid == from || ranged && uid > from && (err != nil || uid <= to) {
			return true
		}
	}
	return false
}
