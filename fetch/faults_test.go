package fetch_test

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// scenario is a maildrop with the messages u1, u2 and u3, and what is wrong with its
// server during the first poll. After that nothing is wrong any more.
type scenario struct {
	name   string
	server pop3test.Behaviour
	faults []pop3test.Fault
	// account changes the account; it may be nil.
	account func(*fetch.Account)

	// The first poll ends with class and delivers these messages, by their numbers.
	// left are the unique-ids on the server after it.
	class     fetch.Class
	delivered string
	left      string
	// says is a part of its error, notices and refusals. hint is a part of the hint
	// of its error.
	says string
	hint string
	// polls is how many polls it takes, with pause between them, until each message is
	// delivered once and the server is empty. It includes the first; 0 is never.
	polls int
	pause time.Duration
	// again are the messages that are downloaded more than once.
	again string
}

const all, nothing, uids = "1 2 3", "", "u1 u2 u3"

var scenarios = []scenario{
	// A message that gives trouble does not hold up the others.
	{
		name: "RETR refused", faults: []pop3test.Fault{pop3test.ReplyErr("RETR", "message is locked away").UID("u2")},
		class: fetch.ClassRefused, delivered: "1 3", left: "u2", says: `server refused RETR: "message is locked away"`,
		polls: 2, pause: 15 * time.Minute,
	},
	{
		name: "RETR refused, one at a time", faults: []pop3test.Fault{pop3test.ReplyErr("RETR", "no").UID("u2")},
		account: oneAtATime,
		class:   fetch.ClassRefused, delivered: "1 3", left: "u2", says: "server refused RETR",
		polls: 2, pause: 15 * time.Minute,
	},
	{
		name: "RETR hangs up in the middle of one message, always", faults: []pop3test.Fault{pop3test.CutIn("RETR", 30, pop3test.HangUp).UID("u2")},
		class: fetch.ClassRefused, delivered: "1 3", left: "u2", says: "it did not come in whole",
		polls: 2, pause: time.Hour, again: "u2",
	},
	{
		name: "RETR resets in the middle of one message, once", faults: []pop3test.Fault{pop3test.CutIn("RETR", 30, pop3test.Reset).UID("u3").Session(1)},
		account: oneAtATime,
		class:   fetch.ClassFine, delivered: all, left: nothing, says: "connecting again",
		polls: 1, again: "u3",
	},
	{
		name: "a body without CRLF before the final dot", faults: []pop3test.Fault{pop3test.NoFinalCRLF("RETR").UID("u2")},
		account: func(a *fetch.Account) { oneAtATime(a); impatient(a) },
		class:   fetch.ClassRefused, delivered: "1 3", left: "u2", says: "no answer from server for 2s",
		polls: 2, pause: time.Hour, again: "u2",
	},
	{
		name: "DELE refused", faults: []pop3test.Fault{pop3test.ReplyErr("DELE", "read only").UID("u2")},
		class: fetch.ClassFine, delivered: all, left: "u2", says: `would not delete 1 of 3 messages: server refused DELE: "read only"`,
		polls: 2,
	},

	// Sizes and counts are only hints.
	{
		name: "LIST, STAT and RETR announce too little", faults: []pop3test.Fault{pop3test.WrongSizes(func(string, int64) int64 { return 1 })},
		class: fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},
	{
		name: "LIST, STAT and RETR announce too much", faults: []pop3test.Fault{pop3test.WrongSizes(func(string, int64) int64 { return 1 << 50 })},
		class: fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},
	{
		name: "LIST, STAT and RETR announce less than nothing", faults: []pop3test.Fault{pop3test.WrongSizes(func(string, int64) int64 { return -5 })},
		class: fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},
	{
		name: "STAT counts too few", faults: []pop3test.Fault{pop3test.Replace("STAT", "+OK 0 0\r\n")},
		class: fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},
	{
		name: "STAT counts too many", faults: []pop3test.Fault{pop3test.Replace("STAT", "+OK 99999999999999999999 7\r\n")},
		class: fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},
	{
		name: "STAT counts more than are listed", faults: []pop3test.Fault{pop3test.Replace("STAT", "+OK 500 7\r\n")},
		class: fetch.ClassFine, delivered: all, left: nothing, says: "it has 500 messages, and lists 3", polls: 1,
	},
	{
		name: "STAT is refused", faults: []pop3test.Fault{pop3test.ReplyErr("STAT", "what?")},
		class: fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},

	// Listings that lack something or hold nonsense.
	{
		name: "a partial listing", faults: []pop3test.Fault{pop3test.PartialListing(func(uid string) bool { return uid == "u2" })},
		class: fetch.ClassFine, delivered: "2", left: "u1 u3", polls: 2,
	},
	{
		name: "an empty listing", faults: []pop3test.Fault{pop3test.EmptyListing()},
		class: fetch.ClassFine, delivered: nothing, left: uids, polls: 2,
	},
	{
		name: "message numbers negative, huge and absurd",
		faults: []pop3test.Fault{
			pop3test.Replace("LIST", "+OK\r\n-1 9\r\n0 9\r\n1 9\r\n2 -9\r\n3 x\r\n4294967297 9\r\n99999999999999999999 9\r\nx y\r\n.\r\n"),
			pop3test.Replace("UIDL", "+OK\r\n-1 a\r\n0 b\r\n1 u1\r\n2 u2\r\n3 u3\r\n4294967297 c\r\n99999999999999999999 d\r\nx y\r\n.\r\n"),
		},
		class: fetch.ClassFine, delivered: all, left: nothing, says: "10 lines of the server's listing make no sense", polls: 1,
	},
	{
		name: "a message that is listed and not there",
		faults: []pop3test.Fault{
			pop3test.Replace("UIDL", "+OK\r\n1 u1\r\n2 u2\r\n3 u3\r\n2147483647 ghost\r\n.\r\n"),
		},
		class: fetch.ClassRefused, delivered: all, left: nothing, says: "no such message", polls: 1,
	},
	{
		name:   "UIDL refused for now",
		faults: []pop3test.Fault{pop3test.ReplyErr("UIDL", "[SYS/TEMP] index is being rebuilt")},
		class:  fetch.ClassRetry, delivered: nothing, left: uids, says: "[SYS/TEMP]", hint: "try again later", polls: 2,
	},
	{
		name:   "LIST refused",
		faults: []pop3test.Fault{pop3test.ReplyErr("LIST", "no")},
		class:  fetch.ClassFine, delivered: all, left: nothing, polls: 1,
	},
	{
		name: "an endless line", faults: []pop3test.Fault{pop3test.EndlessLine("UIDL")},
		class: fetch.ClassRetry, delivered: nothing, left: uids, says: "a line of at most", polls: 2,
	},

	// Replies that answer no command, and replies that are missing.
	{
		name: "an unsolicited line before a reply", faults: []pop3test.Fault{pop3test.Prepend("UIDL", "* hello there\r\n")},
		class: fetch.ClassRetry, delivered: nothing, left: uids, says: `expected +OK or -ERR, the server sent "* hello there"`, polls: 2,
	},
	{
		name: "an unsolicited line behind a message", faults: []pop3test.Fault{pop3test.Append("RETR", "+OK surprise\r\n").Session(1).UID("u1")},
		account: oneAtATime,
		class:   fetch.ClassFine, delivered: all, left: nothing, says: `expected nothing before the command, the server sent "+OK surprise`, polls: 1,
	},
	{
		name: "an unsolicited line behind the last message", faults: []pop3test.Fault{pop3test.Append("RETR", "+OK surprise\r\n").Session(1).UID("u3")},
		account: oneAtATime,
		class:   fetch.ClassRetry, delivered: all, left: uids, says: `expected nothing before the command, the server sent "+OK surprise`, polls: 2,
	},
	{
		name: "nonsense in place of a message", faults: []pop3test.Fault{pop3test.Replace("RETR", "HTTP/1.1 400 Bad Request\r\n").UID("u3")},
		account: oneAtATime,
		class:   fetch.ClassRefused, delivered: "1 2", left: "u3", says: "HTTP/1.1 400", polls: 2, pause: time.Hour, again: "u3",
	},
	{
		name: "nothing in place of a message", faults: []pop3test.Fault{pop3test.Replace("RETR", "+OK\r\n.\r\n").UID("u2")},
		class: fetch.ClassRefused, delivered: "1 3", left: "u2", says: "the server sent nothing of its ",
		polls: 2, pause: 15 * time.Minute, again: "u2",
	},

	// Deletions count only after QUIT was answered.
	{
		name: "QUIT refused", faults: []pop3test.Fault{pop3test.ReplyErr("QUIT", "cannot write mailbox")},
		class: fetch.ClassRetry, delivered: all, left: uids, says: `did not confirm the deletion of 3 messages`, hint: "what was delivered is safe", polls: 2,
	},
	{
		name: "QUIT deletes only some", faults: []pop3test.Fault{pop3test.KeepAtQuit(func(uid string) bool { return uid == "u2" })},
		class: fetch.ClassRetry, delivered: all, left: "u2", says: "some deleted messages not removed", hint: "what was delivered is safe", polls: 2,
	},
	{
		name: "QUIT is not answered and not obeyed", faults: []pop3test.Fault{pop3test.Ignore("QUIT", pop3test.HangUp)},
		class: fetch.ClassRetry, delivered: all, left: uids, says: "did not confirm", hint: "what was delivered is safe", polls: 2,
	},
	{
		name: "QUIT is met with silence", faults: []pop3test.Fault{pop3test.Ignore("QUIT", pop3test.Hang)},
		account: impatient,
		class:   fetch.ClassRetry, delivered: all, left: uids, says: "did not confirm", hint: "what was delivered is safe", polls: 2,
	},
	{
		name: "QUIT is obeyed but not answered", faults: []pop3test.Fault{pop3test.LoseReply("QUIT", pop3test.Reset)},
		class: fetch.ClassRetry, delivered: all, left: nothing, says: "did not confirm", hint: "what was delivered is safe", polls: 2,
	},

	// Refused logins, each with its own hint.
	refusal("[IN-USE] do you have another POP session running?", fetch.ClassRetry, "another program has the mailbox open"),
	refusal("[LOGIN-DELAY] minimum time between mail checks violation", fetch.ClassRetry, "longer pause between polls"),
	refusal("[SYS/TEMP] database is down", fetch.ClassRetry, "trouble of its own"),
	refusal("[SYS/PERM] mailbox is corrupt", fetch.ClassOperator, "ask its operator"),
	refusal("[AUTH] invalid credentials", fetch.ClassOperator, "check user and password"),
	refusal("authentication failed", fetch.ClassOperator, "check user and password"),
	refusal("5.7.139 basic authentication is disabled", fetch.ClassOperator, "an app password, or oauth"),
	refusal("Your account has been blocked", fetch.ClassOperator, "check user and password"),
	{
		name: "a login is answered by hanging up", faults: []pop3test.Fault{pop3test.Ignore(pop3test.Login, pop3test.HangUp)},
		class: fetch.ClassRetry, delivered: nothing, left: uids, says: "cannot log in", hint: "some servers hang up on a wrong password", polls: 2,
	},
	refusal("maildrop already locked", fetch.ClassRetry, "try again later"),
	refusal("temporary authentication failure", fetch.ClassRetry, "try again later"),
	refusal("too many login attempts", fetch.ClassRetry, "try again later"),
	refusal("login is allowed once in 15 minutes", fetch.ClassRetry, "try again later"),
	refusal("Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or system is busy.",
		fetch.ClassRetry, "try again later; if this goes on, check user and password"),
	refusal("you check for mail too frequently", fetch.ClassRetry, "try again later"),
	{
		name: "connection limit", faults: []pop3test.Fault{pop3test.ReplyErr(pop3test.Greeting, "Maximum number of connections from your IP exceeded")},
		class: fetch.ClassRetry, left: uids, says: "server refused the connection", hint: "try again later", polls: 2,
	},
	{
		name: "connection limit, with a code", faults: []pop3test.Fault{pop3test.ReplyErr(pop3test.Greeting, "[SYS/TEMP] come back later")},
		class: fetch.ClassRetry, left: uids, says: "server refused the connection [SYS/TEMP]", hint: "try again later", polls: 2,
	},
	{
		name: "not a POP3 server", faults: []pop3test.Fault{pop3test.Replace(pop3test.Greeting, "* OK IMAP4rev1 ready\r\n")},
		class: fetch.ClassRetry, left: uids, says: "greeting: expected +OK or -ERR", hint: "check server, its port and tls", polls: 2,
	},
	{
		name: "a greeting that does not come", faults: []pop3test.Fault{pop3test.Ignore(pop3test.Greeting, pop3test.Hang)},
		account: impatient,
		class:   fetch.ClassRetry, left: uids, says: "no answer from server for 2s", hint: "check server, its port and tls", polls: 2,
	},

	// Servers with few capabilities.
	{name: "no CAPA", server: pop3test.Behaviour{Without: []string{"CAPA"}}, delivered: all, polls: 1},
	{name: "no UIDL", server: pop3test.Behaviour{Without: []string{"UIDL"}}, delivered: all, polls: 1},
	{name: "neither UIDL nor TOP", server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}}, delivered: all, polls: 1},
	{
		name: "neither UIDL nor TOP, QUIT refused", server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}},
		faults: []pop3test.Fault{pop3test.ReplyErr("QUIT", "no")},
		class:  fetch.ClassRetry, delivered: all, left: uids, says: "did not confirm", polls: 2, again: uids,
	},
	{
		name: "neither UIDL nor TOP, one message refused", server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}},
		faults: []pop3test.Fault{pop3test.ReplyErr("RETR", "no").UID("u2")},
		class:  fetch.ClassRefused, delivered: "1 3", left: "u2", says: "?: server refused RETR", polls: 2,
	},
	{
		name: "neither UIDL nor TOP, and mail is to be kept", server: pop3test.Behaviour{Without: []string{"UIDL", "TOP"}},
		account: func(a *fetch.Account) { a.Keep.Forever = true },
		class:   fetch.ClassOperator, delivered: nothing, left: uids, says: "neither UIDL nor TOP", hint: "keep: false",
	},
	{name: "lines that end in LF", faults: []pop3test.Fault{pop3test.BareLF()}, delivered: all, polls: 1},
}

// refusal returns the scenario of a login that is refused with that text.
func refusal(text string, class fetch.Class, hint string) scenario {
	return scenario{
		name: "login: " + text, faults: []pop3test.Fault{pop3test.ReplyErr(pop3test.Login, text)},
		class: class, left: uids, says: "cannot log in", hint: hint, polls: 2, pause: 2 * time.Minute,
	}
}

// oneAtATime turns pipelining off.
func oneAtATime(a *fetch.Account) { a.Server.Window = 1 }

// impatient shortens the wait for a server that hangs. It is still long enough for a busy
// machine.
func impatient(a *fetch.Account) { a.Server.Silence = 2 * time.Second }

func TestScenarios(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			sc.run(t)
		})
	}
}

func (sc scenario) run(t *testing.T) {
	r := newRig(t, sc.server)
	want := r.fill(3)
	r.server.Order(sc.faults...)
	if sc.account != nil {
		sc.account(r.account)
	}

	s := r.poll()
	if s.Class != sc.class {
		t.Errorf("class %v, want %v: %v", s.Class, sc.class, s.Err)
	}
	if said := r.reportText(s); !strings.Contains(said, sc.says) {
		t.Errorf("it says %q and not %q", said, sc.says)
	}
	hint := fetch.Hint(s.Err)
	if !strings.Contains(hint, sc.hint) || s.Class == fetch.ClassOperator && hint == "" {
		t.Errorf("the hint is %q, not %q", hint, sc.hint)
	}
	var delivered []string
	for _, n := range strings.Fields(sc.delivered) {
		i, _ := strconv.Atoi(n)
		delivered = append(delivered, want[i-1])
	}
	r.expectDelivered(delivered...)
	if left := strings.Join(r.left(), " "); left != sc.left {
		t.Errorf("left on the server: %q, want %q", left, sc.left)
	}
	r.expectNothingStaged()
	if sc.polls == 0 {
		return
	}

	r.server.ClearFaults()
	r.account.Server.Silence = 0 // what follows may take its time
	for range sc.polls - 1 {
		r.advance(sc.pause)
		r.mustPoll()
	}
	r.expectDelivered(want...)
	if left := r.left(); len(left) != 0 {
		t.Errorf("left on the server after %d polls: %q", sc.polls, left)
	}
	for _, uid := range strings.Fields(uids) {
		n := r.drop.Retrieved(uid)
		if twice := slices.Contains(strings.Fields(sc.again), uid); n > 1 && !twice || n < 2 && twice {
			t.Errorf("%s was retrieved %d times", uid, n)
		}
	}
}

// reportText returns all that a poll tells a person: its error, its notices and its
// refusals.
func (r *rig) reportText(s fetch.Summary) string {
	var said []string
	if s.Err != nil {
		said = append(said, s.Err.Error())
	}
	for _, e := range eventsOf[fetch.Noticed](r) {
		said = append(said, e.Text)
	}
	for _, e := range eventsOf[fetch.Refused](r) {
		said = append(said, cmp.Or(e.UID, "?")+": "+e.Reason)
	}
	return strings.Join(said, "\n")
}
