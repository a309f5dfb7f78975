package imap_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Eight batches that wait for a hanging server wait for about one timeout together, not for
// one each, whether it hangs at once or at APPEND.
func TestHungServer(t *testing.T) {
	for name, hangs := range map[string]string{"at once": "", "at APPEND": "APPEND"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				o := options("mail.example.net:143", durable.OS, dir)
				var servers sync.WaitGroup
				var dialled atomic.Int32
				o.Server.Dial = func(context.Context, string, string) (net.Conn, error) {
					dialled.Add(1)
					client, server := net.Pipe()
					servers.Go(func() { hangAt(server, hangs) })
					return client, nil
				}
				s := open(t, o)
				var batches sync.WaitGroup
				begun := time.Now()
				for i := range 8 {
					batches.Go(func() {
						if deliverTo(t, s, letter(fmt.Sprint(i), 100)) == nil {
							t.Error("it was delivered")
						}
					})
				}
				batches.Wait()
				if n, took := dialled.Load(), time.Since(begun); n > 2 || took > 3*o.Server.Timeout {
					t.Errorf("%d connections, and %v", n, took)
				}
				s.Close()
				servers.Wait()
			})
		})
	}
}

// If a batch is cancelled while it connects, the batches that wait for the connection do not
// fail.
func TestCancelledWhileOthersWait(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := options("mail.example.net:143", durable.OS, dir)
		var servers, batches sync.WaitGroup
		var dialled atomic.Int32
		o.Server.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			if dialled.Add(1) == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			client, server := net.Pipe()
			servers.Go(func() { hangAt(server, "nothing") })
			return client, nil
		}
		s := open(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		batches.Go(func() {
			if _, err := s.Begin(ctx); err == nil {
				t.Error("the first has begun")
			}
		})
		synctest.Wait()
		batches.Go(func() {
			if b, err := prepare(t, s, letter("a", 100)); err != nil {
				t.Errorf("the second: %v", err)
			} else {
				b.Abort()
			}
		})
		time.Sleep(time.Second)
		cancel()
		batches.Wait()
		s.Close()
		servers.Wait()
	})
}

// deliverTo delivers a message in a batch of its own.
func deliverTo(t *testing.T, s deliver.Sink, message string) error {
	b, err := prepare(t, s, message)
	if err != nil {
		return err
	}
	defer b.Abort()
	_, err = commit(t.Context(), b)
	return err
}

// prepare stages and prepares a message.
func prepare(t *testing.T, s deliver.Sink, message string) (deliver.Batch, error) {
	b, err := s.Begin(t.Context())
	if err != nil {
		return nil, err
	}
	_, err = b.Stage(t.Context(), deliver.Mail{Account: "work", Arrived: arrived}, strings.NewReader(message))
	if err == nil {
		_, err = b.Prepare(t.Context())
	}
	if err != nil {
		b.Abort()
		return nil, err
	}
	return b, nil
}

// hangAt serves a connection until a command with the verb at, which it never answers. If at
// is empty, it does not even send a greeting.
func hangAt(conn net.Conn, at string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	if at != "" {
		io.WriteString(conn, "* OK [CAPABILITY IMAP4rev1 LITERAL+ UIDPLUS] ready\r\n")
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(line, " ")
		switch verb, _, _ := strings.Cut(strings.TrimSpace(rest), " "); {
		case at == "" || verb == at:
			io.Copy(io.Discard, r)
			return
		case verb == "STATUS":
			io.WriteString(conn, "* STATUS INBOX (UIDNEXT 1 UIDVALIDITY 1)\r\n"+tag+" OK\r\n")
		case verb == "CAPABILITY":
			io.WriteString(conn, "* CAPABILITY IMAP4rev1 LITERAL+ UIDPLUS\r\n"+tag+" OK done\r\n")
		default:
			io.WriteString(conn, tag+" OK done\r\n")
		}
	}
}
