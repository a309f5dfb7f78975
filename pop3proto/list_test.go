package pop3proto_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// multiline returns a multi-line reply with these lines, given without line ends.
func multiline(lines ...string) string {
	return "+OK\r\n" + strings.Join(append(lines, ".\r\n"), "\r\n")
}

func TestList(t *testing.T) {
	type entry = pop3proto.Entry
	uid90 := strings.Repeat("u", 90)
	for name, test := range map[string]struct {
		stat, list, uidl string
		want             pop3proto.Listing
	}{
		"empty": {"+OK 0 0", multiline(), multiline(), pop3proto.Listing{UIDL: true}},
		"plain": {"+OK 2 320 octets", multiline("1 120", "2 200"), multiline("1 a", "2 b"),
			pop3proto.Listing{Count: 2, Octets: 320, UIDL: true, Entries: []entry{{1, "a", 120}, {2, "b", 200}}}},
		"gaps, and STAT is wrong": {"+OK 9 -1", multiline("3 1", "7 2"), multiline("3 a", "7 b"),
			pop3proto.Listing{Count: 9, UIDL: true, Entries: []entry{{3, "a", 1}, {7, "b", 2}}}},
		"STAT is nonsense": {"+OK many", multiline("1 1"), multiline("1 a"),
			pop3proto.Listing{Count: -1, UIDL: true, Entries: []entry{{1, "a", 1}}}},
		"STAT is refused": {"-ERR", multiline("1 1"), multiline("1 a"),
			pop3proto.Listing{Count: -1, UIDL: true, Entries: []entry{{1, "a", 1}}}},
		"out of order": {"+OK 3 6", multiline("3 3", "1 1", "2 2"), multiline("2 b", "3 c", "1 a"),
			pop3proto.Listing{Count: 3, Octets: 6, UIDL: true, Entries: []entry{{1, "a", 1}, {2, "b", 2}, {3, "c", 3}}}},
		"only in one": {"+OK 4 4", multiline("2 2", "4 4"), multiline("1 a", "3 c", "4 d"),
			pop3proto.Listing{Count: 4, Octets: 4, UIDL: true, Unnamed: 1, Entries: []entry{{1, "a", 0}, {2, "", 2}, {3, "c", 0}, {4, "d", 4}}}},
		"blanks": {"+OK  1\t1", multiline("", "  1 \t 1 ", " "), multiline("\t", "1   a b/c@d  \t"),
			pop3proto.Listing{Count: 1, Octets: 1, UIDL: true, Entries: []entry{{1, "a b/c@d", 1}}}},
		"unusual unique-ids": {"+OK 4 4", multiline("1 1", "2 1", "3 1", "4 1"), multiline("1 "+uid90, "2 \x80\xff", "3 dup", "4 dup"),
			pop3proto.Listing{Count: 4, Octets: 4, UIDL: true, Entries: []entry{{1, uid90, 1}, {2, "\x80\xff", 1}, {3, "dup", 1}, {4, "dup", 1}}}},
		"unusable unique-ids": {"+OK 5 5", multiline("1 1", "2 1", "3 1", "4 1", "5 1"),
			multiline("1", "2 ", "3 a\x00b", "4 "+strings.Repeat("u", 1025), "5 a\rb"),
			pop3proto.Listing{Count: 5, Octets: 5, UIDL: true, Entries: []entry{{1, "", 1}, {2, "", 1}, {3, "", 1}, {4, "", 1}, {5, "", 1}}}},
		"odd numbers": {"+OK 1 1", multiline("-1 5", "0 5", "1 1", "2147483648 5", "99999999999999999999 5", "x 5", "+2 5"), multiline("1 a", "1x b"),
			pop3proto.Listing{Count: 1, Octets: 1, UIDL: true, Odd: 7, Entries: []entry{{1, "a", 1}}}},
		"largest number": {"+OK 1 1", multiline("2147483647 1"), multiline("2147483647 a"),
			pop3proto.Listing{Count: 1, Octets: 1, UIDL: true, Entries: []entry{{math.MaxInt32, "a", 1}}}},
		"odd sizes": {"+OK 4 99999999999999999999", multiline("1 -5", "2", "3 big", "4 5000000000 x", "5 9000000000000000000"), multiline("1 a", "2 b", "3 c", "4 d", "5 e"),
			pop3proto.Listing{Count: 4, UIDL: true, Entries: []entry{{1, "a", 0}, {2, "b", 0}, {3, "c", 0}, {4, "d", 5_000_000_000}, {5, "e", 1 << 40}}}},
		"listed twice": {"+OK 2 2", multiline("1 1", "1 9", "2 1"), multiline("1 a", "2 b", "1 a"),
			pop3proto.Listing{Count: 2, Octets: 2, UIDL: true, Odd: 2, Entries: []entry{{1, "a", 1}, {2, "b", 1}}}},
		"listed as two": {"+OK 2 2", multiline("1 1"), multiline("1 a", "1 b", "2 c", "2 d"),
			pop3proto.Listing{Count: 2, Octets: 2, UIDL: true, Odd: 2, Entries: []entry{{1, "", 1}, {2, "", 0}}}},
		"no UIDL": {"+OK 1 1", multiline("1 1"), "-ERR unknown command\r\n",
			pop3proto.Listing{Count: 1, Octets: 1, Entries: []entry{{1, "", 1}}}},
		"no LIST": {"+OK 1 1", "-ERR no\r\n", multiline("1 a"),
			pop3proto.Listing{Count: 1, Octets: 1, UIDL: true, Entries: []entry{{1, "a", 0}}}},
		"empty, and refused for it": {"+OK 0 0", "-ERR no messages\r\n", "-ERR no messages\r\n", pop3proto.Listing{}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []struct {
				name    string
				start   newClientFunc
				sizes   bool     // List, or else ListUIDs and AddSizes
				replies []string // after that to STAT
				writes  []string
			}{
				{"one by one", newClient, true, []string{test.list, test.uidl}, []string{"STAT\r\n", "LIST\r\n", "UIDL\r\n"}},
				{"pipelined", newPipeliningClient, true, []string{test.list, test.uidl}, []string{"STAT\r\nLIST\r\nUIDL\r\n"}},
				{"sizes later, one by one", newClient, false, []string{test.uidl, test.list}, []string{"STAT\r\n", "UIDL\r\n", "LIST\r\n"}},
				{"sizes later, pipelined", newPipeliningClient, false, []string{test.uidl, test.list}, []string{"STAT\r\nUIDL\r\n", "LIST\r\n"}},
			} {
				c, conn := mode.start(t, nil, append([]string{test.stat + "\r\n"}, mode.replies...)...)
				list := c.List
				if !mode.sizes {
					list = c.ListUIDs
				}
				got, err := list(t.Context())
				if err == nil {
					err = c.AddSizes(t.Context(), got)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.Entries == nil {
					got.Entries = []entry{}
				}
				if test.want.Entries == nil {
					test.want.Entries = []entry{}
				}
				test.want.Sized = true
				if diff := cmp.Diff(test.want, *got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", mode.name, diff)
				}
				if !slices.Equal(conn.writes, mode.writes) {
					t.Errorf("%s: sent %q", mode.name, conn.writes)
				}
			}
		})
	}
}

func TestAddUIDs(t *testing.T) {
	type entry = pop3proto.Entry
	for name, test := range map[string]struct {
		first, again string
		want         pop3proto.Listing
	}{
		"refused once": {"-ERR\r\n", multiline("1 a", "2 b"),
			pop3proto.Listing{UIDL: true, Entries: []entry{{1, "a", 10}, {2, "b", 20}}}},
		"refused again": {"-ERR\r\n", "-ERR\r\n",
			pop3proto.Listing{Entries: []entry{{1, "", 10}, {2, "", 20}}}},
		"short once": {multiline("2 b"), multiline("1 a", "2 b"),
			pop3proto.Listing{UIDL: true, Entries: []entry{{1, "a", 10}, {2, "b", 20}}}},
		"short twice": {multiline("2 b"), multiline("2 b"),
			pop3proto.Listing{UIDL: true, Unnamed: 1, Entries: []entry{{1, "", 10}, {2, "b", 20}}}},
		"only the missing one": {multiline("2 b"), multiline("1 a"),
			pop3proto.Listing{UIDL: true, Entries: []entry{{1, "a", 10}, {2, "b", 20}}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t, nil, "+OK 2 30\r\n", multiline("1 10", "2 20"), test.first, test.again)
			got, err := c.List(t.Context())
			if err == nil {
				err = c.AddUIDs(t.Context(), got)
			}
			if err != nil {
				t.Fatal(err)
			}
			test.want.Count, test.want.Octets, test.want.Sized = 2, 30, true
			if diff := cmp.Diff(test.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSurvey(t *testing.T) {
	capa, gmail := multiline("TOP", "PIPELINING"), multiline("TOP")
	for name, test := range map[string]struct {
		start  newClientFunc
		capa   string
		sizes  bool
		writes []string
	}{
		"all at once":            {newPipeliningClient, capa, true, []string{"CAPA\r\nSTAT\r\nLIST\r\nUIDL\r\n"}},
		"without sizes":          {newPipeliningClient, capa, false, []string{"CAPA\r\nSTAT\r\nUIDL\r\n"}},
		"pipelining after login": {newClient, capa, true, []string{"CAPA\r\n", "STAT\r\nLIST\r\nUIDL\r\n"}},
		"no pipelining":          {newClient, gmail, true, []string{"CAPA\r\n", "STAT\r\n", "LIST\r\n", "UIDL\r\n"}},
		"no longer pipelining":   {newPipeliningClient, gmail, true, []string{"CAPA\r\nSTAT\r\nLIST\r\nUIDL\r\n"}},
		"no CAPA":                {newClient, "-ERR\r\n", true, []string{"CAPA\r\n", "STAT\r\n", "LIST\r\n", "UIDL\r\n"}},
	} {
		replies := []string{test.capa, "+OK 1 5\r\n", multiline("1 5"), multiline("1 a")}
		if !test.sizes {
			replies = slices.Delete(replies, 2, 3)
		}
		c, conn := test.start(t, nil, replies...)
		caps, l, err := c.Survey(t.Context(), test.sizes)
		if err != nil || caps.Has("TOP") != (test.capa != "-ERR\r\n") || len(l.Entries) != 1 || l.Entries[0].UID != "a" {
			t.Errorf("%s: %v, %+v, %v", name, caps.Lines(), l, err)
		}
		if !slices.Equal(conn.writes, test.writes) {
			t.Errorf("%s: sent %q", name, conn.writes)
		}
	}
}

// TestAhead has servers that hang up on several commands sent at once, or reply to some and
// are then silent. The error is an AheadError, unless the server is silent from the first
// command on, which has other reasons.
func TestAhead(t *testing.T) {
	capa := multiline("TOP", "PIPELINING")
	for name, test := range map[string]struct {
		start   newClientFunc
		survey  bool
		replies []string
		silent  bool
		ahead   bool
	}{
		"only STAT":             {newPipeliningClient, false, []string{"+OK 1 1\r\n"}, true, true},
		"STAT, which is odd":    {newPipeliningClient, false, []string{"-ERR\r\n"}, true, true},
		"only CAPA":             {newPipeliningClient, true, []string{capa}, true, true},
		"not even STAT":         {newPipeliningClient, false, nil, true, false},
		"not even CAPA":         {newPipeliningClient, true, nil, true, false},
		"one by one":            {newClient, false, []string{"+OK 1 1\r\n"}, true, false},
		"one by one, and CAPA":  {newClient, true, []string{multiline("TOP"), "+OK 1 1\r\n"}, true, false},
		"a hang-up":             {newPipeliningClient, false, []string{"+OK 1 1\r\n"}, false, true},
		"a hang-up at once":     {newPipeliningClient, true, nil, false, true},
		"a hang-up, one by one": {newClient, true, []string{multiline("TOP")}, false, false},
	} {
		c, conn := test.start(t, nil, test.replies...)
		conn.silent = test.silent
		var err error
		if test.survey {
			_, _, err = c.Survey(t.Context(), true)
		} else {
			_, err = c.List(t.Context())
		}
		cause := io.ErrUnexpectedEOF
		if test.silent {
			cause = os.ErrDeadlineExceeded
		}
		wantBroken(t, c, err, cause)
		if _, ahead := errors.AsType[*pop3proto.AheadError](err); ahead != test.ahead {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListRefused(t *testing.T) {
	for _, test := range []struct{ list, uidl, verb string }{
		{"-ERR no\r\n", "-ERR no\r\n", "LIST"},
		{multiline("1 1"), "-ERR [SYS/TEMP] later\r\n", "UIDL"},
	} {
		c, _ := newPipeliningClient(t, nil, "+OK 1 1\r\n", test.list, test.uidl, "+OK\r\n")
		_, err := c.List(t.Context())
		var refused *pop3proto.ReplyError
		if !errors.As(err, &refused) || refused.Verb != test.verb {
			t.Errorf("error %v, want %s to be refused", err, test.verb)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Errorf("the session did not go on: %v", err)
		}
	}
}

// TestOddStat checks replies to STAT with negative numbers.
func TestOddStat(t *testing.T) {
	for stat, want := range map[string]int{"+OK 3 -2147483000\r\n": 3, "+OK -3 0\r\n": -1} {
		c, _ := newClient(t, nil, stat, multiline(), multiline())
		if l, err := c.List(t.Context()); err != nil || l.Count != want || l.Octets != 0 {
			t.Errorf("%q: listing %+v, %v", stat, l, err)
		}
	}
}

func TestInStep(t *testing.T) {
	for _, test := range []struct {
		stat, again string
		ok          bool
	}{
		{"+OK 2 30", "+OK 2 30 octets", true},
		{"+OK 2 -1", "+OK 2 -1", true},
		{"+OK many", "", true}, // STAT is not sent again
		{"+OK 2 30", "+OK 3 31", true},
		{"+OK 2 30", "+OK 3 30", false},
		{"+OK 2 30", "+OK 4321 octets", false},
		{"+OK 2 0", "+OK 4321 octets", false},
		{"+OK 2 30", "+OK 1 30", false},
		{"+OK 2 30", "+OK 2 octets", false},
		{"+OK 2 30", "-ERR no such message", false},
		{"+OK 2 30", "From: bob@example.net", false},
	} {
		c, _ := newClient(t, nil, test.stat+"\r\n", multiline("1 10", "2 20"), multiline("1 a", "2 b"), test.again+"\r\n")
		l, err := c.List(t.Context())
		if err == nil {
			err = c.InStep(t.Context(), l)
		}
		if test.ok != (err == nil) || err != nil && !errors.Is(err, pop3proto.ErrBroken) {
			t.Errorf("%q, then %q: %v", test.stat, test.again, err)
		}
	}
}

// TestInStepAfterLoop leaves a second loop early, after a first one that was in step.
// InStep must not use the reply to the first loop's STAT. It uses the one that was sent
// with the last command of the second loop, or sends STAT itself.
func TestInStepAfterLoop(t *testing.T) {
	for _, test := range []struct {
		window int
		unread []string // replies that have not been read when the loop is left
		writes []string
	}{
		{0, []string{message("b"), message("c")}, []string{"RETR 1\r\nRETR 2\r\nRETR 3\r\nSTAT\r\n"}},
		{2, []string{message("b")}, []string{"RETR 1\r\nRETR 2\r\n", "STAT\r\n"}},
	} {
		const stat = "+OK 3 30\r\n"
		replies := []string{stat, multiline("1 10", "2 10", "3 10"), multiline("1 a", "2 b", "3 c"), message("a"), message("b"), message("c"), stat}
		replies = append(append(append(replies, message("a")), test.unread...), "+OK 4321 octets\r\n")
		c, conn := newPipeliningClient(t, &pop3proto.Options{Window: test.window}, replies...)
		l, err := c.List(t.Context())
		if err == nil {
			_, err = retrieve(t.Context(), c, 3)
		}
		if err == nil {
			err = c.InStep(t.Context(), l)
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.writes = nil
		for range c.Retrieve(t.Context(), numberedEntries(3)) {
			break
		}
		if err := c.InStep(t.Context(), l); !errors.Is(err, pop3proto.ErrBroken) || !slices.Equal(conn.writes, test.writes) {
			t.Errorf("window %d: error %v, sent %q", test.window, err, conn.writes)
		}
	}
}

// TestNoStatAfterLoop has a server that hangs up instead of replying to the STAT that
// follows the last RETR. The loop returns the error.
func TestNoStatAfterLoop(t *testing.T) {
	c, _ := newPipeliningClient(t, nil, "+OK 1 10\r\n", multiline("1 10"), multiline("1 a"), message("a"))
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := retrieve(t.Context(), c, 1)
	if len(got) != 1 {
		t.Errorf("got %q", got)
	}
	wantBroken(t, c, err, io.ErrUnexpectedEOF)
}

// TestListWithoutEnd has servers with an endless line or listing.
func TestListWithoutEnd(t *testing.T) {
	opts := &pop3proto.Options{MaxMessages: 1000}
	for name, src := range map[string]io.Reader{
		"line":        &endlessReader{prefix: "+OK 1 1\r\n+OK\r\n1 ", repeat: "x"},
		"reply":       &endlessReader{repeat: "x"},
		"listing":     &endlessReader{prefix: "+OK 1 1\r\n+OK\r\n", repeat: "1 1\r\n"},
		"blank lines": &endlessReader{prefix: "+OK 1 1\r\n+OK\r\n", repeat: "\r\n"},
		"unique-ids":  &endlessReader{prefix: "+OK 1 1\r\n+OK\r\n.\r\n+OK\r\n", repeat: "1 1\r\n"},
	} {
		c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: io.MultiReader(
			strings.NewReader(greeting), strings.NewReader("+OK\r\nPIPELINING\r\n.\r\n"), src)}, opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Capabilities(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = c.List(t.Context())
		t.Log(name, err)
		wantProtocolError(t, c, err)
		if len(err.Error()) > 500 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// endlessReader reads prefix once and then repeat without end.
type endlessReader struct{ prefix, repeat string }

func (f *endlessReader) Read(p []byte) (int, error) {
	if f.prefix == "" {
		f.prefix = strings.Repeat(f.repeat, 1000)
	}
	n := copy(p, f.prefix)
	f.prefix = f.prefix[n:]
	return n, nil
}

// listing returns the reply to LIST or UIDL for n messages.
func listing(n int, line func(b []byte, num int) []byte) []byte {
	b := []byte("+OK\r\n")
	for i := range n {
		b = append(line(b, i+1), "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// bigMaildrop returns all that a server with n messages sends for CAPA and List.
func bigMaildrop(n int) []byte {
	b := fmt.Appendf([]byte(greeting), "+OK\r\nPIPELINING\r\n.\r\n+OK %d 0\r\n", n)
	b = append(b, listing(n, func(b []byte, num int) []byte { return fmt.Appendf(b, "%d 4321", num) })...)
	return append(b, listing(n, func(b []byte, num int) []byte { return fmt.Appendf(b, "%d 000%017x5e8f2b90", num, num) })...)
}

// TestMemoryOfLargeListing checks that a listing of a million messages takes little more
// memory than its text.
func TestMemoryOfLargeListing(t *testing.T) {
	const n = 1_000_000
	replies := bigMaildrop(n)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	// The replies to CAPA and List must not be received with the greeting.
	capa := bytes.Index(replies, []byte("+OK\r\nPIPE"))
	stat := bytes.Index(replies, fmt.Appendf(nil, "+OK %d", n))
	c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: io.MultiReader(
		bytes.NewReader(replies[:capa]), bytes.NewReader(replies[capa:stat]), bytes.NewReader(replies[stat:]))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(l.Entries) != n || l.Odd != 0 || l.Entries[n-1].UID != fmt.Sprintf("000%017x5e8f2b90", n) {
		t.Errorf("%d entries, %d odd", len(l.Entries), l.Odd)
	}
	inUse := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d MB in use, %d MB and %d objects allocated in total, %d MB of replies", inUse>>20,
		(after.TotalAlloc-before.TotalAlloc)>>20, after.Mallocs-before.Mallocs, len(replies)>>20)
	if inUse > 100<<20 {
		t.Errorf("a listing of %d messages takes %d MB", n, inUse>>20)
	}
	if objects := after.Mallocs - before.Mallocs; objects > n/100 {
		t.Errorf("a listing of %d messages took %d objects", n, objects)
	}
	runtime.KeepAlive(l)
	runtime.KeepAlive(replies)
}

func FuzzListing(f *testing.F) {
	f.Add("1 1\r\n2 2\r\n", "1 a\r\n2 b\r\n")
	f.Add("2 1\r\n1 2\r\n2 5\r\n", "3 a\r\n\r\n1 b c\r\n1 d\r\n")
	f.Add("-1 1\r\n", "1\t\x00\r\n..\r\n")
	f.Add("1 2222222222222\r\n2 9223372036854775807\r\n3 9223372036854775808\r\n", "1 a\r\n")
	f.Fuzz(func(t *testing.T, list, uidl string) {
		wellFormed := func(s string) bool {
			return (s == "" || strings.HasSuffix(s, "\r\n")) && strings.Count(s, "\n") == strings.Count(s, "\r\n") &&
				!strings.Contains("\r\n"+s, "\r\n.")
		}
		c, _ := newPipeliningClient(t, nil, "+OK 1 1\r\n", "+OK\r\n"+list+".\r\n", "+OK\r\n"+uidl+".\r\n")
		l, err := c.List(t.Context())
		if err != nil {
			if wellFormed(list) && wellFormed(uidl) {
				t.Errorf("error %v", err)
			}
			return
		}
		last := 0
		for _, e := range l.Entries {
			if e.Num <= last || e.Num > math.MaxInt32 || e.Size < 0 || len(e.UID) > 1024 || strings.ContainsAny(e.UID, "\r\n\x00") {
				t.Errorf("entry %+v after number %d", e, last)
			}
			last = e.Num
		}
		if !wellFormed(list) || !wellFormed(uidl) {
			return
		}
		want, odd := naiveListing(list, uidl)
		if l.Odd != odd || len(l.Entries) != len(want) {
			t.Errorf("%d entries, %d odd; want %d, %d", len(l.Entries), l.Odd, len(want), odd)
		}
		for _, e := range l.Entries {
			if want[e.Num] != e {
				t.Errorf("entry %+v, want %+v", e, want[e.Num])
			}
		}
	})
}

// naiveListing is a simple implementation of merging LIST and UIDL.
func naiveListing(list, uidl string) (entries map[int]pop3proto.Entry, odd int) {
	entries = map[int]pop3proto.Entry{}
	each := func(text string, add func(num int, rest string, again bool)) {
		seen := map[int]bool{}
		for line := range strings.SplitSeq(text, "\r\n") {
			line = strings.Trim(line, " \t")
			if line == "" {
				continue
			}
			word := line
			if i := strings.IndexAny(line, " \t"); i >= 0 {
				word = line[:i]
			}
			num, err := strconv.ParseUint(word, 10, 31)
			if err != nil || num == 0 {
				odd++
				continue
			}
			if seen[int(num)] {
				odd++
			}
			add(int(num), strings.Trim(line[len(word):], " \t"), seen[int(num)])
			seen[int(num)] = true
		}
	}
	each(list, func(num int, rest string, again bool) {
		if again {
			return
		}
		if i := strings.IndexAny(rest, " \t"); i >= 0 {
			rest = rest[:i]
		}
		size, err := strconv.ParseUint(rest, 10, 63)
		if err != nil {
			size = 0
		}
		// Larger sizes are not credible.
		entries[num] = pop3proto.Entry{Num: num, Size: min(int64(size), 1<<40)}
	})
	each(uidl, func(num int, uid string, again bool) {
		if len(uid) > 1024 || strings.ContainsAny(uid, "\r\x00") {
			uid = ""
		}
		e := entries[num]
		if again && e.UID != uid {
			uid = ""
		}
		entries[num] = pop3proto.Entry{Num: num, UID: uid, Size: e.Size}
	})
	return entries, odd
}

func BenchmarkList(b *testing.B) {
	const n = 100_000
	replies := bigMaildrop(n)
	at := bytes.Index(replies, fmt.Appendf(nil, "+OK %d", n))
	capa := len(greeting)
	b.SetBytes(int64(len(replies)))
	b.ReportAllocs()
	for b.Loop() {
		c, err := pop3proto.NewClient(b.Context(), &scriptConn{src: io.MultiReader(
			bytes.NewReader(replies[:capa]), bytes.NewReader(replies[capa:at]), bytes.NewReader(replies[at:]))}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Capabilities(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := c.List(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
