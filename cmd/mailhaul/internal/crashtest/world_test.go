//go:build linux && amd64

package crashtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// workload is what a run has to fetch, and where to.
type workload struct {
	sink string // maildir or mbox
	// perSession of the messages are fetched before each QUIT.
	messages, perSession int
}

// world is a server, a folder with one user's files, and the owner of the mail.
type world struct {
	workload
	dir    string
	server *pop3test.Server
	drop   *pop3test.Maildrop
	sent   map[string]int // the number of each message by its text
	// taken is what the owner has moved out of the mbox.
	taken []string
}

const account = "ada"

// newWorld starts a server with mail, and makes a folder for the user below parent.
func newWorld(parent string, l workload) (*world, error) {
	dir, err := os.MkdirTemp(parent, "mailhaul-kill-")
	if err != nil {
		return nil, err
	}
	w := &world{
		workload: l, dir: dir, sent: map[string]int{}, server: pop3test.New(pop3test.Options{}),
	}
	w.drop = w.server.Account(account, "secret")
	w.send(l.messages)
	if err := w.server.Start(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.path("mbox"), 0o700); err != nil {
		return nil, err
	}
	return w, w.configure()
}

// send adds n more messages to the server.
func (w *world) send(n int) {
	for range n {
		i := len(w.sent)
		text := message(i)
		w.sent[text] = i
		w.drop.Add(fmt.Sprintf("uid-%d", i), []byte(text))
	}
}

// message returns the i-th message, with LF line ends. Some need several writes, and some
// have lines that mbox or POP3 must quote.
func message(i int) string {
	header := fmt.Sprintf("From: sender@example.com\nSubject: message %d\n\n", i)
	switch i % 4 {
	case 0:
		return header + fmt.Sprintf("Hello %d.\n", i)
	case 1:
		return header + "From the start,\n>From the second line,\n.\n..\n\nFrom here.\n\n"
	case 2:
		return header + strings.Repeat(fmt.Sprintf("line of message %d, \x80\xff\n", i), 1500)
	}
	return header
}

func (w *world) configure() error {
	sink := map[string]string{
		"maildir": "{ maildir: Maildir }",
		"mbox":    "{ mbox: mbox/inbox, lock_timeout: 1s }",
	}[w.sink]
	config := fmt.Sprintf(`state: state
sinks: { home: %s }
accounts:
  %s: { server: %q, tls: none, user: %[2]s, password_env: PASSWORD, max_messages: %[4]d, received_header: false }
`, sink, account, w.server.Addr(), w.perSession)
	return os.WriteFile(w.path("config.yaml"), []byte(config), 0o600)
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) close() {
	w.server.Close()
	os.RemoveAll(w.dir)
}

// fetch returns a run of the program. Half of the runs have one processor only, and the
// others all that there are, which makes other orders of events likely.
func (w *world) fetch() program {
	p := program{
		dir: w.dir, args: []string{"fetch", "--config", "config.yaml"}, env: []string{"PASSWORD=secret"},
	}
	processors := 1
	if rand.N(2) == 0 {
		processors = runtime.NumCPU()
	}
	p.env = append(p.env, "GOMAXPROCS="+strconv.Itoa(processors))
	return p
}

// leftovers lists what must not be there once everything is fetched.
func (w *world) leftovers() ([]string, error) {
	var found []string
	for _, pattern := range []string{"Maildir/tmp/*", "state/spool/*", "mbox/inbox.lock"} {
		names, err := filepath.Glob(w.path(pattern))
		if err != nil {
			return nil, err
		}
		found = append(found, names...)
	}
	for _, m := range w.drop.Messages() {
		found = append(found, m.UID+" on the server")
	}
	ctx := context.Background()
	store, err := state.OpenReadOnly(ctx, w.path("state"))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	st, err := store.Status(ctx, account, 0)
	if st.Open > 0 || len(st.Refused) > 0 {
		found = append(found, fmt.Sprintf("%d promises, %d refusals in the state", st.Open, len(st.Refused)))
	}
	return found, err
}
