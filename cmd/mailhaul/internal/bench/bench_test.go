package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// The bench starts copies of its own program, which here is the test binary.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" || len(os.Args) > 1 && os.Args[1] == drainName {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestBench runs three scenarios with little mail, without the other fetchers.
func TestBench(t *testing.T) {
	servertest.Program(t, "dovecot")
	b := &bench{
		log: t.Output(), runs: 1, slowRun: time.Hour, runLimit: time.Minute, tools: []string{drainName, "mailhaul"},
		syncDisks: func() {}, // a real sync waits for all that the machine writes
	}
	defer b.tearDown()
	if err := b.setUp(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := b.installMailhaul(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	scenarioNamed := func(name string) scenario {
		chosen, err := chooseScenarios(name)
		if err != nil {
			t.Fatal(err)
		}
		return chosen[0]
	}
	one, many, keep := scenarioNamed("b"), scenarioNamed("d"), scenarioNamed("g")
	one.messages = 10
	many.accounts, many.messages, many.rtt = 3, 2, time.Millisecond
	keep.accounts, keep.messages, keep.rtt = 2, 3, time.Millisecond
	for _, sc := range []scenario{one, many, keep} {
		o, err := b.measure(t.Context(), sc)
		if err != nil {
			t.Fatalf("%s: %v", sc.name, err)
		}
		for _, r := range o.Results {
			if r.Failure != "" {
				t.Errorf("%s: %s: %s", sc.name, r.Contender, r.Failure)
			}
			if !r.ProcessPerAccount && !slices.Contains([]int64{1, int64(sc.accounts)}, r.Traffic.Connections) {
				t.Errorf("%s: %s has made %d connections for %d accounts", sc.name, r.Contender, r.Traffic.Connections, sc.accounts)
			}
			if r.Traffic.Turns < 3 || r.median(func(u usage) float64 { return u.CPU }) == 0 || r.peakMiB() == 0 {
				t.Errorf("%s: %s was not measured: %+v", sc.name, r.Contender, r)
			}
		}
		t.Logf("\n%s", o.table(sc))
	}
}

// A relay passes on all data in both directions, and not before it is due.
func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "hello\n")
		io.Copy(conn, conn)
	}()
	relay, err := startRelay(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const rtt = 10 * time.Millisecond
	relay.rtt.Store(int64(rtt))
	began := time.Now()
	conn, err := net.Dial("tcp", relay.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i, want := range []string{"hello\n", "one\n", "two\n", strings.Repeat("x", 1<<20) + "\n"} {
		if i > 0 {
			if _, err := io.WriteString(conn, want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %.20q, %v; want %.20q", got, err, want)
		}
		// The connection takes a round trip, and so do the greeting and each echo.
		if least := time.Duration(i+2) * rtt; time.Since(began) < least {
			t.Errorf("%.20q came after %v, want at least %v", want, time.Since(began), least)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the end of the connection was not passed on: %v", err)
	}
	if c := relay.traffic(); c.Connections != 1 || c.Turns < 3 || c.Octets != 6+2*8+2*(1<<20+1) {
		t.Errorf("counted %+v", c)
	}
}

// verifyMaildir finds messages that are lost, duplicated or changed.
func TestVerify(t *testing.T) {
	dir := t.TempDir() + "/Maildir"
	if err := makeMaildir(dir, os.Getuid()); err != nil {
		t.Fatal(err)
	}
	first, second := firstField+"1;\nSubject: a\n\n.dot\n", firstField+"2;\nSubject: b\n\ntext\n"
	want := []sum{sumOf([]byte(first)), sumOf([]byte(second))}
	put := func(name, text string) {
		if err := os.WriteFile(dir+"/new/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, stuffed, good bool) {
		t.Helper()
		if err := verifyMaildir(dir, want, stuffed); (err == nil) != good {
			t.Errorf("%s: %v", what, err)
		}
	}
	put("1", "Received: by somebody\n"+first)
	check("one is lost", false, false)
	put("2", strings.ReplaceAll(second, "\n", "\r\n"))
	check("all are there", false, true)
	put("3", second)
	check("one is there twice", false, false)
	put("3", "")
	check("there is an empty file", false, false)
	if err := os.Remove(dir + "/new/3"); err != nil {
		t.Fatal(err)
	}
	put("1", strings.ReplaceAll(first, ".dot", "..dot"))
	check("one has a dot too many", false, false)
	check("the same of a client that does not remove dot-stuffing", true, true)
}
