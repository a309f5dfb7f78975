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

// imapServer is an IMAP server with one folder, and with random faults.
type imapServer struct {
	*rand.Rand
	caps      string
	search    string // what SEARCH finds: "" is right, "nothing" and "all" are not, and anything else is its reply
	noUIDs    bool   // no APPENDUID is sent, whatever caps say
	keepsPart bool   // of an APPEND that is refused over quota, the messages that fit stay
	poison    string // the fault of an APPEND with POISON in a message, or ""
	logf      func(format string, args ...any)

	mu           sync.Mutex     // guards what follows
	idle         sync.Cond      // signalled when a session ends
	sessions     int            // that are open
	validity     int            // UIDVALIDITY
	next         int            // UIDNEXT
	mail         map[int]string // by UID; nil if there is no folder
	appended     map[string]int // how often a message was appended
	quota        int            // in octets; 0 is no limit
	faults       int            // how many are still to come
	faultPercent int            // the chance of one at each command, while faults is not 0
	onCommand    func(verb string)
}

// startIMAP starts the server, which runs until the test ends, and returns its address.
func startIMAP(t *testing.T, b *imapServer) (addr string) {
	t.Helper()
	b.idle.L, b.appended = &b.mu, map[string]int{}
	b.create()
	return listen(t, func(conn net.Conn) {
		b.mu.Lock()
		b.sessions++
		b.mu.Unlock()
		s := &imapSession{b, conn, bufio.NewReader(conn)}
		s.serve()
		conn.Close()
		b.mu.Lock()
		b.sessions--
		b.mu.Unlock()
		b.idle.Broadcast()
	})
}

// waitIdle waits until no session is open: a session may still obey commands of a client
// that has gone.
func (b *imapServer) waitIdle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.sessions > 0 {
		b.idle.Wait()
	}
}

// create makes an empty folder with another UIDVALIDITY.
func (b *imapServer) create() {
	b.validity, b.next, b.mail = b.validity+1, 1, map[int]string{}
}

// renumber gives the folder another UIDVALIDITY and all messages other UIDs.
func (b *imapServer) renumber() {
	old := b.mail
	b.create()
	for _, uid := range sortedKeys(old) {
		b.put(old[uid])
	}
}

// put appends a message to the folder.
func (b *imapServer) put(text string) (uid int) {
	uid = b.next
	b.mail[uid] = text
	b.next++
	return uid
}

// octets returns the size of all messages together.
func (b *imapServer) octets() (n int) {
	for _, text := range b.mail {
		n += len(text)
	}
	return n
}

// sortedKeys returns the keys of a map in ascending order.
func sortedKeys[V any](m map[int]V) (keys []int) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// imapSession is one connection.
type imapSession struct {
	*imapServer
	conn net.Conn
	r    *bufio.Reader
}

// say sends a line.
func (s *imapSession) say(format string, args ...any) {
	fmt.Fprintf(s.conn, format+"\r\n", args...)
}

// chooseFault returns what goes wrong with a command, or "":
//
//	cut, bye        it is not obeyed, and the server hangs up; with bye it says so first
//	lost, lost bye  it is obeyed, and the server hangs up without a reply
//	half            the server hangs up in the middle of the message
//	NO …, BAD       it is not obeyed, and this is the reply
func (s *imapSession) chooseFault(verb string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onCommand != nil {
		s.onCommand(verb)
	}
	if s.faults == 0 || s.IntN(100) >= s.faultPercent || verb == "LOGOUT" {
		return ""
	}
	s.faults--
	all := []string{"cut", "lost", "bye", "lost bye", "BAD", "NO", "NO [UNAVAILABLE]", "NO [INUSE]", "NO [LIMIT]", "NO [NOPERM]"}
	if verb == "APPEND" {
		all = append(all, "NO [OVERQUOTA]", "NO [TRYCREATE]", "NO [ALREADYEXISTS]", "half", "half", "lost", "lost", "lost")
	}
	what := all[s.IntN(len(all))]
	s.logf("    %s: %s", verb, what)
	return what
}

// serve obeys commands until the connection ends.
func (s *imapSession) serve() {
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
		what := s.chooseFault(verb)
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

// literals reads the messages of an APPEND; with half, it stops in the middle of the
// first.
func (s *imapSession) literals(args string, half bool) (texts []string, err error) {
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

// obey carries out a command, and returns the end of its tagged reply.
func (s *imapSession) obey(verb, args string, texts []string) string {
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
		if s.quota > 0 && !s.keepsPart && s.octets()+len(strings.Join(texts, "")) > s.quota {
			return "NO [OVERQUOTA]"
		}
		uids := strconv.Itoa(s.next)
		for _, text := range texts {
			if s.quota > 0 && s.octets()+len(text) > s.quota {
				return "NO [OVERQUOTA]"
			}
			s.appended[text]++
			s.put(text)
		}
		if len(texts) > 1 {
			uids += ":" + strconv.Itoa(s.next-1)
		}
		if strings.Contains(s.caps, "UIDPLUS") && !s.noUIDs {
			return fmt.Sprintf("OK [APPENDUID %d %s]", s.validity, uids)
		}
	case "UID SEARCH":
		return s.searchMessageID(args)
	case "UID FETCH":
		set, items, _ := strings.Cut(args, " ")
		for i, uid := range sortedKeys(s.mail) {
			switch head := s.mail[uid]; {
			case !inSet(set, uid):
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

// searchMessageID carries out a SEARCH for a Message-ID.
func (s *imapSession) searchMessageID(args string) string {
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

// inSet reports whether a set of UIDs contains uid.
func inSet(set string, uid int) bool {
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
