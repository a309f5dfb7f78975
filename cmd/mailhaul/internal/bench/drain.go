package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// drainJob is the configuration of the drain, a file of JSON.
type drainJob struct {
	Addr        string
	CAFile      string // if it is set, the drain uses implicit TLS
	Users       []string
	Connections int    // at once
	Maildir     string // to write to; if it is empty, messages are only listed
}

// drain does the least that any fetcher must do: it logs in, requests all messages at
// once, and writes them to files. It syncs nothing, remembers nothing, deletes nothing
// and does not even remove dot-stuffing.
func drain(jobFile string) error {
	text, err := os.ReadFile(jobFile)
	if err != nil {
		return err
	}
	var j drainJob
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	var cfg *tls.Config
	if j.CAFile != "" {
		pem, err := os.ReadFile(j.CAFile)
		if err != nil {
			return err
		}
		cfg = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
		cfg.RootCAs.AppendCertsFromPEM(pem)
	}
	users := make(chan string, len(j.Users))
	for _, u := range j.Users {
		users <- u
	}
	close(users)
	errs := make([]error, j.Connections)
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for user := range users {
				if err := j.drainAccount(user, cfg); err != nil {
					errs[i] = fmt.Errorf("%s: %w", user, err)
					return
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// drainWindow is how many RETR are sent before a reply is read. 4,000 of them are 40 KB,
// which fit into the socket buffers, so that sending them does not block.
const drainWindow = 4000

// drainAccount lists or fetches the messages of one user.
func (j *drainJob) drainAccount(user string, cfg *tls.Config) error {
	c, err := dialAndLogin(j.Addr, cfg, user)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if j.Maildir == "" {
		return c.listAndQuit()
	}
	stat, err := c.command("STAT")
	if err != nil {
		return err
	}
	count, _, _ := strings.Cut(stat, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("STAT: %q", stat)
	}
	for first := 1; first <= n; first += drainWindow {
		last := min(first+drainWindow-1, n)
		if err := c.retrieve(first, last, filepath.Join(j.Maildir, "new", user)); err != nil {
			return err
		}
	}
	_, err = c.command("QUIT")
	return err
}

// listAndQuit lists the unique-ids and quits, in one round trip.
func (c *client) listAndQuit() error {
	if _, err := c.command("UIDL\r\nQUIT"); err != nil {
		return err
	}
	if err := c.copyBody(io.Discard); err != nil {
		return err
	}
	_, err := c.readReply()
	return err
}

// retrieve fetches the messages first to last, and writes each to a file whose name is
// prefix, a dot and the message's number.
func (c *client) retrieve(first, last int, prefix string) error {
	var commands bytes.Buffer
	for i := first; i <= last; i++ {
		fmt.Fprintf(&commands, "RETR %d\r\n", i)
	}
	if _, err := c.conn.Write(commands.Bytes()); err != nil {
		return err
	}
	for i := first; i <= last; i++ {
		if _, err := c.readReply(); err != nil {
			return err
		}
		f, err := os.Create(fmt.Sprintf("%s.%d", prefix, i))
		if err != nil {
			return err
		}
		if err := errors.Join(c.copyBody(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
