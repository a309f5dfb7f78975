package fetch_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
)

// farm is many POP3 servers inside a synctest bubble, where real sockets would stop the
// clock. It records who connected and logged in, and when.
type farm struct {
	serving sync.WaitGroup // sessions
	t       *testing.T
	hosts   map[string]*farmHost
	users   map[string]*farmUser

	mu         sync.Mutex
	open, peak int // connections now, and the most at once
}

// farmHost is one server of the farm.
type farmHost struct {
	name    string
	latency time.Duration                   // of each reply
	connect func(ctx context.Context) error // called before a connection is accepted, unless nil

	dials      []time.Time
	open, peak int // connections now, and the most at once
}

// farmUser is one maildrop of the farm.
type farmUser struct {
	delay    time.Duration // LOGIN-DELAY
	tooEarly int           // logins that were refused for it
	refuse   string        // the refusal of each PASS, or ""
	mail     int           // messages in the maildrop

	tries, logins []time.Time // all logins, and those that succeeded
}

func newFarm(t *testing.T) *farm {
	f := &farm{t: t, hosts: map[string]*farmHost{}, users: map[string]*farmUser{}}
	t.Cleanup(f.serving.Wait) // a client does not wait for the reply to its QUIT
	return f
}

// host returns the host of that name, and makes it if there is none.
func (f *farm) host(name string) *farmHost {
	h := f.hosts[name]
	if h == nil {
		h = &farmHost{name: name, latency: 50 * time.Millisecond}
		f.hosts[name] = h
	}
	return h
}

// account makes an account on a host.
func (f *farm) account(name, host string) *fetch.Account {
	h := f.host(host)
	f.locked(func() { f.users[name] = &farmUser{} })
	return &fetch.Account{
		Name: name, User: name,
		Server: fetch.Server{
			Host: host, Security: fetch.PlainText,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, h) },
		},
		Secret: func(context.Context) (string, error) { return secret, nil },
	}
}

// locked calls do while no server looks at the farm.
func (f *farm) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *farm) dial(ctx context.Context, h *farmHost) (net.Conn, error) {
	f.mu.Lock()
	h.dials = append(h.dials, time.Now())
	h.open++
	f.open++
	h.peak, f.peak = max(h.peak, h.open), max(f.peak, f.open)
	connect := h.connect
	f.mu.Unlock()
	hungUp := sync.OnceFunc(func() { f.locked(func() { h.open--; f.open-- }) })
	time.Sleep(h.latency)
	if connect != nil {
		if err := connect(ctx); err != nil {
			hungUp()
			return nil, err
		}
	}
	ours, theirs := net.Pipe()
	f.serving.Go(func() {
		defer theirs.Close()
		f.serve(theirs, h)
	})
	return &farmConn{ours, hungUp}, nil
}

// farmConn calls closed when the client hangs up.
type farmConn struct {
	net.Conn
	closed func()
}

func (c *farmConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// serve is one session.
func (f *farm) serve(conn net.Conn, h *farmHost) {
	in := bufio.NewScanner(conn)
	reply := func(lines ...string) {
		time.Sleep(h.latency)
		fmt.Fprint(conn, strings.Join(lines, "\r\n")+"\r\n")
	}
	reply("+OK")
	var u *farmUser
	left := 0
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "CAPA":
			caps := []string{"+OK", "USER", "UIDL", "TOP", "RESP-CODES"}
			f.mu.Lock()
			if u != nil && u.delay > 0 {
				caps = append(caps, fmt.Sprintf("LOGIN-DELAY %d", u.delay/time.Second))
			}
			f.mu.Unlock()
			reply(append(caps, ".")...)
		case "USER":
			f.locked(func() { u = f.users[arg] })
			reply("+OK")
		case "PASS":
			refused := f.login(u)
			if refused != "" {
				reply("-ERR " + refused)
				continue
			}
			f.locked(func() { left = u.mail })
			reply("+OK")
		case "STAT":
			reply(fmt.Sprintf("+OK %d %d", left, left*20))
		case "LIST", "UIDL":
			lines := []string{"+OK"}
			for i := range left {
				lines = append(lines, fmt.Sprintf("%d %d", i+1, 20))
			}
			reply(append(lines, ".")...)
		case "RETR":
			reply("+OK", "Subject: hello", "", "hello", ".")
		case "DELE":
			f.locked(func() { u.mail-- })
			reply("+OK")
		case "QUIT":
			reply("+OK")
			return
		default:
			reply("-ERR")
		}
	}
}

// login records a login, and returns why it is refused, or "".
func (f *farm) login(u *farmUser) (refused string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	u.tries = append(u.tries, now)
	if u.refuse != "" {
		return u.refuse
	}
	if n := len(u.logins); n > 0 && now.Sub(u.logins[n-1]) < u.delay {
		u.tooEarly++
		return "[LOGIN-DELAY] too early"
	}
	u.logins = append(u.logins, now)
	return ""
}

// logins returns the times at which an account has logged in.
func (f *farm) logins(name string) (all []time.Time) {
	f.locked(func() { all = append(all, f.users[name].logins...) })
	return all
}

// dials returns the times at which a host was connected to.
func (f *farm) dials(h *farmHost) (all []time.Time) {
	f.locked(func() { all = append(all, h.dials...) })
	return all
}

// run runs the scheduler until stop is called. stop returns when all polls have ended.
func (f *farm) run(s fetch.Setup) (orders chan<- fetch.Order, stop func()) {
	drain, ended := make(chan struct{}), make(chan struct{})
	s.Options.Drain = drain
	taken := make(chan fetch.Order)
	go func() {
		defer close(ended)
		fetch.Run(f.t.Context(), s, taken, nil)
	}()
	return taken, func() { close(drain); <-ended }
}
