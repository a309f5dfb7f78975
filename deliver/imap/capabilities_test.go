package imap_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// A server may take its time to say how it lets us in, up to the timeout. Before
// it has said so it is sent no password.
func TestSlowCapabilities(t *testing.T) {
	for name, test := range map[string]struct {
		after time.Duration
		next  string
		fault deliver.Fault
	}{
		"fast":  {time.Second, "AUTHENTICATE SCRAM-SHA-256", deliver.FaultOperator},
		"slow":  {40 * time.Second, "AUTHENTICATE SCRAM-SHA-256", deliver.FaultOperator},
		"never": {time.Hour, "", deliver.FaultTemporary},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				o := options("mail.example.net:143", durable.OS, dir)
				o.Server.Timeout = 5 * time.Minute
				var said []string
				var servers sync.WaitGroup
				o.Server.Dial = func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					servers.Go(func() { said = refuseAll(server, test.after) })
					return client, nil
				}
				s := open(t, o)
				begun := time.Now()
				_, err := s.Begin(t.Context())
				if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != test.fault {
					t.Errorf("Begin = %v", err)
				}
				if took := time.Since(begun); took > o.Server.Timeout+time.Minute {
					t.Errorf("it took %v", took)
				}
				s.Close()
				servers.Wait()
				said = slices.DeleteFunc(said, func(command string) bool { return command == "CAPABILITY" })
				if got := strings.Join(said, "\n"); !strings.HasPrefix(got, test.next) || got != "" && test.next == "" {
					t.Errorf("the server was sent %q, want %q first", got, test.next)
				}
			})
		})
	}
}

// refuseAll says after a while that it knows SCRAM and no LOGIN, and refuses all
// else. It returns the commands.
func refuseAll(conn net.Conn, after time.Duration) (said []string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	io.WriteString(conn, "* OK ready\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return said
		}
		tag, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		said = append(said, command)
		answer := tag + " NO no\r\n"
		if command == "CAPABILITY" {
			time.Sleep(after)
			answer = "* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=SCRAM-SHA-256\r\n" + tag + " OK done\r\n"
		}
		io.WriteString(conn, answer)
	}
}
