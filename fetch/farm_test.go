package fetch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// farm is many POP3 servers in the time of a synctest bubble, which real
// sockets would stop. Their maildrops are empty; what they note is who came
// when.
type farm struct {
	serving sync.WaitGroup // sessions
	t       *testing.T
	hosts   map[string]*farmHost
	users   map[string]*farmUser

	mu sync.Mutex
	// open counts the connections, of which there were most at once.
	open, most int
}

type farmHost struct {
	name string
	// pace is how long it takes for each reply; connect, if not nil, is asked
	// before a connection is taken.
	pace    time.Duration
	connect func(ctx context.Context) error

	dials      []time.Time
	open, most int
}

type farmUser struct {
	// delay is LOGIN-DELAY. A login before its end is refused, and counted.
	delay time.Duration
	early int
	// refuse, if not empty, is the answer to PASS.
	refuse string
	mail   int // so many are there; each is deleted once it was retrieved

	tries, logins []time.Time
}

func newFarm(t *testing.T) *farm {
	f := &farm{t: t, hosts: map[string]*farmHost{}, users: map[string]*farmUser{}}
	t.Cleanup(f.serving.Wait) // nobody waits for the answer to a QUIT
	return f
}

// host returns the host of that name, and makes it first.
func (f *farm) host(name string) *farmHost {
	h := f.hosts[name]
	if h == nil {
		h = &farmHost{name: name, pace: 50 * time.Millisecond}
		f.hosts[name] = h
	}
	return h
}

// account makes an account on a host.
func (f *farm) account(name, host string) *fetch.Account {
	h := f.host(host)
	f.change(func() { f.users[name] = &farmUser{} })
	return &fetch.Account{
		Name: name, User: name,
		Server: fetch.Server{
			Host: host, Security: fetch.PlainText,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, h) },
		},
		Secret: func(context.Context) (string, error) { return secret, nil },
	}
}

// change does something while no server looks.
func (f *farm) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *farm) dial(ctx context.Context, h *farmHost) (net.Conn, error) {
	f.mu.Lock()
	h.dials = append(h.dials, time.Now())
	h.open++
	f.open++
	h.most, f.most = max(h.most, h.open), max(f.most, f.open)
	connect := h.connect
	f.mu.Unlock()
	hungUp := sync.OnceFunc(func() { f.change(func() { h.open--; f.open-- }) })
	time.Sleep(h.pace)
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

// farmConn tells when the client hangs up.
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
		time.Sleep(h.pace)
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
			f.change(func() { u = f.users[arg] })
			reply("+OK")
		case "PASS":
			refused := f.login(u)
			if refused != "" {
				reply("-ERR " + refused)
				continue
			}
			f.change(func() { left = u.mail })
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
			f.change(func() { u.mail-- })
			reply("+OK")
		case "QUIT":
			reply("+OK")
			return
		default:
			reply("-ERR")
		}
	}
}

// login notes a login, and returns why it is refused, if it is.
func (f *farm) login(u *farmUser) (refused string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	u.tries = append(u.tries, now)
	if u.refuse != "" {
		return u.refuse
	}
	if n := len(u.logins); n > 0 && now.Sub(u.logins[n-1]) < u.delay {
		u.early++
		return "[LOGIN-DELAY] too early"
	}
	u.logins = append(u.logins, now)
	return ""
}

// logins returns when an account logged in.
func (f *farm) logins(name string) (all []time.Time) {
	f.change(func() { all = append(all, f.users[name].logins...) })
	return all
}

// dials returns when a host was connected to.
func (f *farm) dials(h *farmHost) (all []time.Time) {
	f.change(func() { all = append(all, h.dials...) })
	return all
}

// run polls until stop is called, which returns when all polls have ended.
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

// memory is a fetch.State that remembers schedules, and who is being polled.
type memory struct {
	mu        sync.Mutex
	schedules map[string]state.Schedule
	maildrops map[string]string
	held      map[string]bool
}

func newMemory() *memory {
	return &memory{schedules: map[string]state.Schedule{}, maildrops: map[string]string{}, held: map[string]bool{}}
}

// options returns options for polls that remember by m.
func (m *memory) options() fetch.Options {
	return fetch.Options{State: m, Observer: m.observe}
}

// observe ends the lease of a poll that has ended.
func (m *memory) observe(e fetch.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := e.(fetch.Finished); ok {
		if _, other := errors.AsType[*state.HeldError](e.Err); !other {
			delete(m.held, e.Account)
		}
	}
}

func (m *memory) Lease(_ context.Context, account string) (*state.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[account] {
		return nil, &state.HeldError{Account: account}
	}
	m.held[account] = true
	return new(state.Lease), nil
}

func (m *memory) Promises(context.Context, string) ([]state.Promise, error) { return nil, nil }
func (m *memory) Rows(context.Context, string) ([]state.Row, error)         { return nil, nil }

func (m *memory) Standing(_ context.Context, account string) (state.Standing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return state.Standing{Schedule: m.schedules[account], Maildrop: m.maildrops[account]}, nil
}

func (m *memory) RowStates(context.Context, string) ([]state.RowState, error) { return nil, nil }

func (m *memory) Landed(context.Context, string, string) (map[string]bool, error) { return nil, nil }

func (m *memory) Deliveries(context.Context, string, string) ([]state.Delivery, error) {
	return nil, nil
}

func (m *memory) Keep(context.Context, string, int64, state.Housekeeping) error         { return nil }
func (m *memory) Delete(context.Context, string, int64, []string) error                 { return nil }
func (m *memory) Confirm(context.Context, string) error                                 { return nil }
func (m *memory) Undelete(context.Context, string) error                                { return nil }
func (m *memory) Promise(context.Context, string, []state.Promise) error                { return nil }
func (m *memory) Land(context.Context, string, int64, []state.Landing) error            { return nil }
func (m *memory) Retract(context.Context, string, []state.Promise) error                { return nil }
func (m *memory) Suspect(context.Context, string, int64, string, []state.Promise) error { return nil }
func (m *memory) Refuse(context.Context, string, []state.Refusal) error                 { return nil }

func (m *memory) SavePoll(_ context.Context, account string, p state.Poll) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := *p.Schedule
	if p.Error == "" {
		s.LastSuccess = p.Ended
	}
	m.schedules[account] = s
	if p.Maildrop != "" {
		m.maildrops[account] = p.Maildrop
	}
	return nil
}
