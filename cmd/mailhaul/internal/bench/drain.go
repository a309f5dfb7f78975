package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// drainOrder is what the drain is told, as JSON in a file.
type drainJob struct {
	Addr        string
	CAFile      string // TLS from the first octet, if set
	Users       []string
	Connections int    // at once
	Maildir     string // where the messages go; none: only log in, list and quit
}

// drain is the least that any fetcher must do: log in, ask for everything at
// once, and write what comes into files. It syncs nothing, remembers nothing,
// deletes nothing and looks into no message, not even for its dots.
func drain(orderFile string) error {
	text, err := os.ReadFile(orderFile)
	if err != nil {
		return err
	}
	var o drainJob
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	var cfg *tls.Config
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return err
		}
		cfg = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
		cfg.RootCAs.AppendCertsFromPEM(pem)
	}
	users := make(chan string, len(o.Users))
	for _, u := range o.Users {
		users <- u
	}
	close(users)
	errs := make([]error, o.Connections)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for user := range users {
				if err := o.drainAccount(user, cfg); err != nil {
					errs[i] = fmt.Errorf("%s: %w", user, err)
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// drainWindow is how many replies are asked for before the first is read.
// 4,000 RETRs are 40 KB, which sockets take without waiting for a reader.
const drainWindow = 4000

func (o *drainJob) drainAccount(user string, cfg *tls.Config) error {
	conn, err := net.Dial("tcp", o.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if cfg != nil {
		conn = tls.Client(conn, cfg)
	}
	d := &drainConn{conn: conn, r: bufio.NewReaderSize(conn, 256<<10)}
	if _, err := d.readReply(); err != nil {
		return err
	}
	if _, err := d.send(authPlain(user)); err != nil {
		return err
	}
	if o.Maildir == "" {
		if _, err := d.send("UIDL\r\nQUIT"); err != nil {
			return err
		}
		if err := d.copyBody(io.Discard); err != nil {
			return err
		}
		_, err := d.readReply()
		return err
	}
	stat, err := d.send("STAT")
	if err != nil {
		return err
	}
	count, _, _ := strings.Cut(stat, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("STAT: %q", stat)
	}
	for from := 1; from <= n; from += drainWindow {
		if err := d.retrieve(from, min(from+drainWindow, n+1), filepath.Join(o.Maildir, "new", user)); err != nil {
			return err
		}
	}
	_, err = d.send("QUIT")
	return err
}

// drained is one connection of the drain.
type drainConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func (d *drainConn) send(line string) (string, error) {
	if _, err := io.WriteString(d.conn, line+"\r\n"); err != nil {
		return "", err
	}
	return d.readReply()
}

func (d *drainConn) readReply() (string, error) {
	line, err := d.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "+OK")
	if !ok {
		return "", fmt.Errorf("the server says %q", line)
	}
	return strings.TrimSpace(text), nil
}

// retrieve asks for the messages from up to but not to, and writes each to a
// file.
func (d *drainConn) retrieve(from, to int, prefix string) error {
	var ask bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&ask, "RETR %d\r\n", i)
	}
	if _, err := d.conn.Write(ask.Bytes()); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if _, err := d.readReply(); err != nil {
			return err
		}
		f, err := os.Create(fmt.Sprintf("%s.%d", prefix, i))
		if err != nil {
			return err
		}
		if err := errors.Join(d.copyBody(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// body copies a multi-line reply as it comes, up to the line that ends it.
func (d *drainConn) copyBody(w io.Writer) error {
	const end = "\r\n.\r\n"
	if first, err := d.r.Peek(3); err != nil {
		return err
	} else if string(first) == end[2:] { // an empty one
		_, err := d.r.Discard(3)
		return err
	}
	for {
		if _, err := d.r.Peek(len(end)); err != nil {
			return err
		}
		b, _ := d.r.Peek(d.r.Buffered())
		if i := bytes.Index(b, []byte(end)); i >= 0 {
			if _, err := w.Write(b[:i+2]); err != nil {
				return err
			}
			_, err := d.r.Discard(i + len(end))
			return err
		}
		n := len(b) - len(end) + 1 // the end may have begun
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		if _, err := d.r.Discard(n); err != nil {
			return err
		}
	}
}
