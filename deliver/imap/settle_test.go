package imap_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// letter returns a message with a body of size octets and the subject once more.
func letter(subject string, size int) string {
	return fmt.Sprintf("Message-ID: <%s@example.org>\r\nSubject: %s\r\n\r\n%s\r\n%s\r\n",
		subject, subject, strings.Repeat("x", size), subject)
}

// TestSettleOverAnotherConnection has two connections. Mail arrives over one after the other
// has looked at the folder. A promise that is then made over the other connection must not
// count that mail, which has the same content, as its own.
func TestSettleOverAnotherConnection(t *testing.T) {
	o := options(serve(t, goimap.CapUIDPlus).addr, durable.OS, t.TempDir())
	o.Pool, o.Login, o.Create = remote.NewPool(2), "of both", true
	inbox := open(t, o)
	o.Folder = "Lists"
	lists := open(t, o)
	// whileBusy calls do while the sink of the other folder uses the connection that was used
	// last.
	whileBusy := func(do func()) {
		b, _ := stage(t, lists, letter("a", 1))
		if err := b.Commit(t.Context(), func(deliver.Receipt) error { do(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	begin := func() deliver.Batch {
		b, err := inbox.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Abort() })
		return b
	}
	whileBusy(func() { begin() })
	put(t, inbox, letter("a", 1))
	b := begin()
	if _, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader(letter("a", 1))); err != nil {
		t.Fatal(err)
	}
	var promises []deliver.Promise
	var err error
	whileBusy(func() { promises, err = b.Prepare(t.Context()) })
	if err != nil || len(promises) != 1 {
		t.Fatal(promises, err)
	}
	if v, err := inbox.Settle(t.Context(), promises[0].Token); v != deliver.NotLanded || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}

// TestSettle breaks the connection at each point of a batch, in which one message comes
// twice, settles the promises, and delivers the rest. Each message must arrive once.
func TestSettle(t *testing.T) {
	messages := []string{letter("a", 10), letter("b", 9000), letter("a", 10), letter("c", 20_000), letter("d", 0)}
	for _, caps := range [][]goimap.Cap{nil, {goimap.CapUIDPlus}, {goimap.CapUIDPlus, goimap.CapLiteralPlus}} {
		for _, what := range []string{"command", "message", "answer"} {
			for n := range messages {
				t.Run(fmt.Sprintf("%v, %s %d", caps, what, n), func(t *testing.T) {
					m := serve(t, caps...)
					appends, ends, answers := -1, -1, -1
					cut := hooks{
						up: func(line string) bool {
							if strings.Contains(line, " APPEND ") {
								appends++
							} else if len(line) == 3 && strings.HasSuffix(line, "\r\n") {
								ends++ // the subject once more
							}
							return what == "command" && appends < n || what == "message" && ends < n || what == "answer"
						},
						down: func(line string) bool {
							if strings.Contains(line, "APPEND completed") {
								answers++
							}
							return what != "answer" || answers < n
						},
					}
					o := options(m.addr, durable.OS, t.TempDir())
					through := proxy(t, m.addr, cut)
					o.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
						return new(net.Dialer).DialContext(ctx, network, through)
					}
					b, promises := stage(t, open(t, o), messages...)
					receipts, err := commit(t.Context(), b)
					if err == nil {
						t.Fatal("the connection was cut, and Commit did not notice")
					}
					// The server may still be storing what it has received.
					m.wait()

					o.Server.Dial = nil
					s := open(t, o)
					var lost []string
					for i, p := range promises {
						if r, ok := receipts[p.Ticket]; ok && r.Err == nil {
							continue
						}
						switch v, err := s.Settle(t.Context(), p.Token); {
						case err != nil:
							t.Fatal(err)
						case v == deliver.Unknown:
							t.Errorf("message %d: unknown", i)
						case v == deliver.NotLanded:
							lost = append(lost, messages[i])
						}
					}
					if len(lost) > 0 {
						put(t, s, lost...)
					}
					got, want := m.texts(), slices.Clone(messages)
					slices.Sort(got)
					slices.Sort(want)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("-want +got:\n%s", diff)
					}
				})
			}
		}
	}
}

// changeFolder changes a folder over a connection of its own, as its owner might.
func changeFolder(t *testing.T, addr string, change func(*imapclient.Client) error) {
	t.Helper()
	o := options(addr, durable.OS, t.TempDir())
	conn, err := o.Server.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(conn, nil)
	defer c.Close()
	if err := errors.Join(c.Login(user, pass).Wait(), change(c)); err != nil {
		t.Fatal(err)
	}
}

// appendTo stores a message in a folder.
func appendTo(c *imapclient.Client, folder, text string) error {
	cmd := c.Append(folder, int64(len(text)), nil)
	_, err := cmd.Write([]byte(text))
	cerr := cmd.Close()
	_, werr := cmd.Wait()
	return errors.Join(err, cerr, werr)
}

// expunge removes the first message of a folder.
func expunge(c *imapclient.Client, folder string) error {
	_, err := c.Select(folder, nil).Wait()
	seen := c.Store(goimap.SeqSetNum(1), &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagDeleted}}, nil)
	return errors.Join(err, seen.Close(), c.Expunge().Close())
}

// recreate returns a function that deletes the folder "work" and creates it again, with a
// message unless text is empty.
func recreate(text string) func(c *imapclient.Client) error {
	return func(c *imapclient.Client) error {
		err := errors.Join(c.Delete("work").Wait(), c.Create("work", nil).Wait())
		if err != nil || text == "" {
			return err
		}
		return appendTo(c, "work", text)
	}
}

// TestSettleChanged settles a promise after the owner has changed the folder.
func TestSettleChanged(t *testing.T) {
	a := letter("a", 10)
	other := strings.Replace(a, "xx", "yy", 1) // same size and Message-ID
	for _, test := range []struct {
		name   string
		lands  bool
		change func(*imapclient.Client) error
		want   deliver.Verdict
	}{
		{name: "another's mail", change: func(c *imapclient.Client) error { return appendTo(c, "work", other) }, want: deliver.NotLanded},
		{name: "landed, and another's mail", lands: true, change: func(c *imapclient.Client) error { return appendTo(c, "work", other) }, want: deliver.Landed},
		{name: "deleted", lands: true, change: func(c *imapclient.Client) error { return expunge(c, "work") }, want: deliver.Unknown},
		{name: "folder made anew", lands: true, change: recreate(""), want: deliver.Unknown},
		{name: "folder made anew with the message", lands: true, change: recreate(a), want: deliver.Landed},
		{name: "folder made anew with another", lands: true, change: recreate(other), want: deliver.Unknown},
		{name: "folder made anew with many others of its Message-ID, and the message", lands: true, change: func(c *imapclient.Client) error {
			err := recreate("")(c)
			for range 120 {
				err = errors.Join(err, appendTo(c, "work", other))
			}
			return errors.Join(err, appendTo(c, "work", a))
		}, want: deliver.Landed},
		{name: "folder gone", lands: true, change: func(c *imapclient.Client) error { return c.Delete("work").Wait() }, want: deliver.Unknown},
	} {
		for _, caps := range [][]goimap.Cap{{goimap.CapUIDPlus}, {goimap.CapUIDPlus, goimap.CapIMAP4rev2}} {
			t.Run(fmt.Sprint(test.name, caps), func(t *testing.T) {
				m := serve(t, caps...)
				o := options(m.addr, durable.OS, t.TempDir())
				o.Folder, o.Create = "work", true
				b, promises := stage(t, open(t, o), a)
				if test.lands {
					if receipts, err := commit(t.Context(), b); err != nil || receipts[0].Err != nil {
						t.Fatal(receipts, err)
					}
				}
				changeFolder(t, m.addr, test.change)
				o.Folder = "INBOX" // the folder in the token counts
				if v, err := open(t, o).Settle(t.Context(), promises[0].Token); v != test.want || err != nil {
					t.Errorf("Settle = %v, %v, want %v", v, err, test.want)
				}
			})
		}
	}
}

// TestSettleEqualMessages settles the promises of two equal messages, of which a folder that
// was created anew holds one.
func TestSettleEqualMessages(t *testing.T) {
	m := serve(t, goimap.CapUIDPlus)
	o := options(m.addr, durable.OS, t.TempDir())
	o.Folder, o.Create = "work", true
	s := open(t, o)
	a := letter("a", 10)
	_, promises := stage(t, s, a, a)
	changeFolder(t, m.addr, recreate(a))
	for n, want := range []deliver.Verdict{deliver.Landed, deliver.Unknown} {
		if v, err := s.Settle(t.Context(), promises[n].Token); v != want || err != nil {
			t.Errorf("message %d: %v, %v, want %v", n, v, err, want)
		}
	}
}

// TestSettleEqualInBatches settles the promise of a message that is equal to one of an earlier
// batch, which was committed between Begin and Prepare.
func TestSettleEqualInBatches(t *testing.T) {
	for _, caps := range [][]goimap.Cap{nil, {goimap.CapUIDPlus}} {
		s := open(t, options(serve(t, caps...).addr, durable.OS, t.TempDir()))
		first, _ := stage(t, s, letter("a", 10))
		second, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { second.Abort() })
		if _, err := second.Stage(t.Context(), deliver.Mail{Account: "work", Arrived: arrived}, strings.NewReader(letter("a", 10))); err != nil {
			t.Fatal(err)
		}
		if receipts, err := commit(t.Context(), first); err != nil || receipts[0].Err != nil {
			t.Fatal(receipts, err)
		}
		promises, err := second.Prepare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v, err := s.Settle(t.Context(), promises[0].Token); v != deliver.NotLanded || err != nil {
			t.Errorf("%v: Settle = %v, %v", caps, v, err)
		}
	}
}

// TestSettleSeesNewMail settles promises of several batches over one connection. Settle must
// see a message that replaces another meanwhile.
func TestSettleSeesNewMail(t *testing.T) {
	m := serve(t, goimap.CapUIDPlus)
	s := open(t, options(m.addr, durable.OS, t.TempDir()))
	a, b := letter("a", 10), letter("b", 20)
	first, early := stage(t, s, a)
	if receipts, err := commit(t.Context(), first); err != nil || receipts[0].Err != nil {
		t.Fatal(receipts, err)
	}
	_, late := stage(t, s, b)
	settle := func(promises []deliver.Promise, want deliver.Verdict) {
		t.Helper()
		if v, err := s.Settle(t.Context(), promises[0].Token); v != want || err != nil {
			t.Errorf("Settle = %v, %v, want %v", v, err, want)
		}
	}
	changeFolder(t, m.addr, func(c *imapclient.Client) error { return appendTo(c, "INBOX", letter("c", 30)) })
	settle(late, deliver.NotLanded)
	settle(early, deliver.Landed)
	changeFolder(t, m.addr, func(c *imapclient.Client) error { return errors.Join(expunge(c, "INBOX"), appendTo(c, "INBOX", b)) })
	settle(late, deliver.Landed)
}

// TestSettleByAnotherSink asks sinks of another folder and of another user.
func TestSettleByAnotherSink(t *testing.T) {
	m := serve(t)
	o := options(m.addr, durable.OS, t.TempDir())
	_, promises := stage(t, open(t, o), letter("a", 10))
	o.Folder = "Archive"
	if open(t, o).Made(promises[0].Token) {
		t.Error("the sink of another folder made the promise")
	}
	o.Folder, o.Server.User = "", "you@example.org"
	if v, err := open(t, o).Settle(t.Context(), promises[0].Token); v != deliver.Unknown || err != nil {
		t.Errorf("Settle = %v, %v", v, err)
	}
	if left, err := os.ReadDir(filepath.Dir(o.Spool.Path("x"))); len(left) != 0 || err != nil {
		t.Errorf("%v is left in the spool, %v", left, err)
	}
}
