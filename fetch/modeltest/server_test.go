package modeltest

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
)

// quit is how a server answers QUIT.
type quit string

const (
	confirmed  quit = "confirmed"
	unanswered quit = "unanswered"            // it deletes, and hangs up without a reply
	unread     quit = "unheard"               // it hangs up before it has read QUIT
	refused    quit = "refused"               // -ERR, and nothing is deleted
	partial    quit = "refused for all but 1" // RFC 1939 §6: some may be deleted
	restored   quit = "confirmed, and undone" // it says +OK, and rolls back
)

// quits are the ways in which a QUIT goes wrong.
var quits = []quit{unanswered, unread, refused, partial, restored}

// server is the POP3 server of one process (RFC 1939). It does not pipeline: all that
// matters of a session is what it deletes, and when.
type server struct {
	w    *world
	step func(what string)
	// quit is the outcome of the next QUIT that deletes; later ones are confirmed.
	quit quit
	// eager deletes each message once it was retrieved, as no server may.
	eager bool
}

// serve is one session.
func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	listed := slices.Clone(s.w.drop)
	var marked []int
	in := bufio.NewReaderSize(conn, 512)
	reply := func(lines string) { fmt.Fprint(conn, strings.ReplaceAll(lines, "\n", "\r\n")+"\r\n") }
	list := func(line func(int) string) {
		b := "+OK\n"
		for i, m := range listed {
			b += fmt.Sprintf("%d %s\n", i+1, line(m))
		}
		reply(b + ".")
	}
	reply("+OK ready")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		var n int
		fmt.Sscan(args, &n)
		switch verb {
		case "CAPA":
			reply("+OK\nUSER\nUIDL\nTOP\n.")
		case "USER", "PASS":
			reply("+OK")
		case "STAT":
			reply(fmt.Sprintf("+OK %d %d", len(listed), 100*len(listed)))
		case "LIST":
			list(func(m int) string { return fmt.Sprint(len(wire(m))) })
		case "UIDL":
			list(uid)
		case "RETR":
			if s.eager {
				marked = append(marked, listed[n-1])
				s.remove(marked)
			}
			reply("+OK\n" + strings.ReplaceAll(wire(listed[n-1]), "\r\n", "\n") + ".")
		case "TOP":
			head, _, _ := strings.Cut(wire(listed[n-1]), "\r\n\r\n")
			reply("+OK\n" + strings.ReplaceAll(head, "\r\n", "\n") + "\n\n.")
		case "DELE":
			marked = append(marked, listed[n-1])
			reply("+OK")
		case "QUIT":
			if len(marked) == 0 {
				return // the client does not wait for the reply
			}
			s.step("QUIT")
			if text := s.update(marked); text != "" {
				s.step("the answer to QUIT")
				reply(text)
			}
			return
		default:
			reply("-ERR")
		}
	}
}

// update carries out QUIT, and returns the reply, or "" for none.
func (s *server) update(marked []int) string {
	how := s.quit
	if len(marked) > 0 {
		s.quit = confirmed
	}
	switch how {
	case unanswered:
		s.remove(marked)
		return ""
	case unread:
		return ""
	case refused:
		return "-ERR some deleted messages not removed"
	case partial:
		s.remove(marked[:min(1, len(marked))])
		return "-ERR some deleted messages not removed"
	case restored:
		return "+OK"
	default:
		s.remove(marked)
		return "+OK"
	}
}

func (s *server) remove(messages []int) {
	s.w.drop = slices.DeleteFunc(s.w.drop, func(m int) bool { return slices.Contains(messages, m) })
}

func uid(message int) string { return fmt.Sprintf("u%d", message) }

// wire returns a message as the server sends it. Its line that begins with From is for
// mbox.
func wire(message int) string {
	return fmt.Sprintf("Subject: %d\r\n\r\nFrom me\r\n%s", message, strings.Repeat("text\r\n", 3*message))
}
