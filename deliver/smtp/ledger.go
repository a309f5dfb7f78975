package smtp

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver/spool"
)

const (
	// ledgerAge is how long the record of a message counts after its last entry.
	ledgerAge = 30 * 24 * time.Hour
	// renewAge is the age at which a message that is tried again gets a new entry,
	// since it may be tried for longer than ledgerAge.
	renewAge = 7 * 24 * time.Hour
	// maxEntry bounds the octets of an entry, which has at most a hundred addresses.
	// Longer lines are skipped.
	maxEntry = 64 << 10
	// maxObsolete is how many obsolete entries the ledger may have, in addition to as
	// many as are needed, before prune rewrites it.
	maxObsolete = 100
)

// ledger is a file in the spool, one for each account and sink, that records which
// recipients have which message. Entries are appended. When all messages in it are
// delivered to all of their recipients, prune empties the file; when most of them are, it
// writes a new file; and it removes a file that is empty already.
type ledger struct {
	spool  *spool.Dir
	owner  string // the account for the spool; contains a NUL, as no account's name does
	suffix string
	now    func() time.Time
	mu     sync.Mutex
	name   string // the file that find found last
}

// record is what the ledger knows of a message.
type record struct {
	delivered []string // the recipients who have it
	pending   int      // how many do not have it yet, by the last entry
	at        int64    // the time of the last entry, in seconds of Unix time
	content   string   // contentOf the message; empty if no entry has it
}

// entry is a line of the ledger. A line that a power cut has torn is no JSON.
type entry struct {
	Key string   `json:"key"`
	At  int64    `json:"at"` // in seconds of Unix time
	To  []string `json:"to,omitempty"`
	// Rest is how many recipients of the message do not have it yet. Content is its
	// contentOf, which identifies it if it comes with another unique-id.
	Rest    int    `json:"rest,omitempty"`
	Content string `json:"content,omitempty"`
	// Forget says that the recipients in To are to get the message again.
	Forget bool `json:"forget,omitempty"`
}

// ledger returns the ledger of an account.
func (s *Sink) ledger(account string) *ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.ledgers[account]
	if !ok {
		l = newLedger(s.o.Spool, s.o.Name, account)
		l.now = s.o.Now
		s.ledgers[account] = l
	}
	return l
}

// newLedger returns the ledger of a sink and an account. The caller sets now.
func newLedger(dir *spool.Dir, sink, account string) *ledger {
	owner := sink + "\x00" + account
	sum := sha256.Sum256([]byte(owner))
	return &ledger{spool: dir, owner: owner, suffix: "taken-" + hex.EncodeToString(sum[:16])}
}

// Rename moves what a sink knows of the mail of account from to account to, and forgets
// what it knew of that one. Neither account may be in use. After an error it can be
// called again.
func Rename(dir *spool.Dir, sink, from, to string) error {
	ours, err := newLedger(dir, sink, from).find()
	if err != nil || ours == "" {
		return err
	}
	l := newLedger(dir, sink, to)
	theirs, err := l.find()
	if err == nil && theirs != "" {
		err = dir.Remove(theirs)
	}
	if err == nil {
		_, err = dir.Rename(ours, l.suffix)
	}
	if err == nil {
		err = dir.Sync()
	}
	return err
}

// find returns the name of the ledger's file, or "" if there is none. It lists the folder
// only if the file that it found last does not exist any more: find is called for each
// message, and the folder may have the ledgers of thousands of accounts.
func (l *ledger) find() (string, error) {
	if l.name != "" && l.spool.Exists(l.name) {
		return l.name, nil
	}
	names, err := l.spool.List(l.suffix)
	if l.name = ""; len(names) > 0 {
		l.name = slices.Min(names)
	}
	return l.name, err
}

// create creates the file, unless it exists. It is durable after the next Sync of the spool.
func (l *ledger) create() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, err := l.find()
	if err != nil || name != "" {
		return err
	}
	return l.write(nil)
}

// write creates a file with these entries.
func (l *ledger) write(entries []entry) error {
	file, err := l.spool.Create(l.owner)
	if err != nil {
		return err
	}
	var lines []byte
	for _, e := range entries {
		lines = append(lines, e.line()...)
	}
	_, err = file.WriteAt(lines, 0)
	err = errors.Join(err, file.Sync(), file.Close())
	name := filepath.Base(file.Name())
	if err == nil {
		l.name, err = l.spool.Rename(name, l.suffix)
	}
	if err != nil {
		_ = l.spool.Remove(name)
	}
	return err
}

// recordDelivered durably records that recipients have a message, and how many do not.
func (l *ledger) recordDelivered(m *message, to []string) error {
	e := entry{Key: m.key, To: to, Rest: len(m.pending)}
	if e.Rest > 0 {
		e.Content = m.content
	}
	return l.appendEntries(e)
}

// moveRecord moves a record to message m from the key that the message had before.
func (l *ledger) moveRecord(m *message, from string, r record) error {
	var entries []entry
	for some := range slices.Chunk(r.delivered, maxRecipients) {
		// In this order, so that a power cut in between makes them get the message
		// again. In the other, an equal message could be taken for this one, and lost.
		entries = append(entries, entry{Key: from, To: some, Forget: true},
			entry{Key: m.key, To: some, Rest: r.pending, Content: r.content})
	}
	return l.appendEntries(entries...)
}

// forgetDelivered records that recipients are to get a message again.
func (l *ledger) forgetDelivered(key string, to []string) error {
	for some := range slices.Chunk(to, maxRecipients) {
		if err := l.appendEntries(entry{Key: key, To: some, Forget: true}); err != nil {
			return err
		}
	}
	return nil
}

// appendEntries durably appends entries to the file, with the present time.
func (l *ledger) appendEntries(entries ...entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, err := l.find()
	if err != nil {
		return err
	}
	file, err := l.spool.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	var lines []byte
	for _, e := range entries {
		e.At = l.now().Unix()
		lines = append(lines, e.line()...)
	}
	if _, err := file.WriteAt(lines, fi.Size()); err != nil {
		return err
	}
	return file.Sync()
}

// line returns the entry in the form of the file. It begins with a newline, which ends a
// line that a power cut has torn.
func (e entry) line() []byte {
	line := bytes.NewBufferString("\n")
	enc := json.NewEncoder(line)
	enc.SetEscapeHTML(false) // it would take six octets for one
	if err := enc.Encode(e); err != nil {
		panic(err) // strings and integers always marshal
	}
	return line.Bytes()
}

// read returns the records by the keys of their messages. What it returns is durable.
func (l *ledger) read() (map[string]record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, _, err := l.records()
	return known, err
}

// records is read for callers that hold mu. It also returns the number of entries.
func (l *ledger) records() (known map[string]record, entries int, err error) {
	known = make(map[string]record)
	err = l.scan(func(e entry) {
		entries++
		r := known[e.Key]
		if r.at < e.At-int64(ledgerAge.Seconds()) {
			r = record{} // the earlier entries do not count any more
		}
		r.content = cmp.Or(e.Content, r.content)
		if r.pending, r.at = e.Rest, e.At; e.Forget {
			r.delivered = subtract(r.delivered, e.To)
		} else {
			r.delivered = append(r.delivered, e.To...)
		}
		known[e.Key] = r
	})
	oldest := l.timeAgo(ledgerAge)
	maps.DeleteFunc(known, func(_ string, r record) bool { return r.at < oldest })
	return known, entries, err
}

// timeAgo returns the time d ago, in seconds of Unix time.
func (l *ledger) timeAgo(d time.Duration) int64 { return l.now().Add(-d).Unix() }

// scan calls see for each entry, the oldest first.
func (l *ledger) scan(see func(entry)) error {
	name, err := l.find()
	if err != nil || name == "" {
		return err
	}
	file, err := l.spool.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	// A line may have been written by a process that died before its sync.
	if err := file.Sync(); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(file, maxEntry)
	inLongLine := false // the beginning of a line was too long, and its rest follows
	for {
		line, err := lines.ReadSlice('\n')
		tooLong := err == bufio.ErrBufferFull
		var e entry
		if !inLongLine && !tooLong && json.Unmarshal(line, &e) == nil {
			see(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && !tooLong {
			return err
		}
		inLongLine = tooLong
	}
}

// prune removes the records of messages that all recipients have.
func (l *ledger) prune() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.removeDuplicates(); err != nil || l.name == "" {
		return err
	}
	known, entries, err := l.records()
	if err != nil {
		return err
	}
	var needed []entry
	for key, r := range known {
		if r.pending == 0 {
			continue
		}
		for some := range slices.Chunk(r.delivered, maxRecipients) {
			needed = append(needed, entry{Key: key, At: r.at, To: some, Rest: r.pending, Content: r.content})
		}
	}
	switch {
	case len(needed) == 0:
		return l.truncateOrRemove()
	case entries > 2*len(needed)+maxObsolete:
		return l.replace(needed)
	default:
		return nil
	}
}

// replace replaces the file by one with these entries. Both say the same, so that after a
// crash it does not matter which of them find returns.
func (l *ledger) replace(entries []entry) error {
	old, err := l.find()
	if err == nil {
		err = l.write(entries)
	}
	if err == nil {
		err = l.spool.Sync()
	}
	if err == nil {
		err = l.spool.Remove(old)
	}
	if err == nil {
		err = l.spool.Sync()
	}
	return err
}

// removeDuplicates removes all files except the one that find returns, after a crash has
// left two. It lists the folder anew, since another process may have used the ledger.
func (l *ledger) removeDuplicates() error {
	names, err := l.spool.List(l.suffix)
	if l.name = ""; err != nil || len(names) == 0 {
		return err
	}
	slices.Sort(names)
	for _, name := range names[1:] {
		if err := l.spool.Remove(name); err != nil {
			return err
		}
	}
	l.name = names[0]
	return nil
}

// truncateOrRemove empties the file. It removes one that is empty already, as there was no
// mail since the last call: Sweep has to read all names in the folder.
func (l *ledger) truncateOrRemove() error {
	name, err := l.find()
	if err != nil || name == "" {
		return err
	}
	file, err := l.spool.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == 0 {
		return l.spool.Remove(name)
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	return file.Sync()
}

// subtract returns the recipients that are not among those who have a message.
func subtract(recipients, has []string) []string {
	return slices.DeleteFunc(slices.Clone(recipients), func(to string) bool { return slices.Contains(has, to) })
}

// keyOf identifies a message in a ledger by its unique-id and its content, since servers use
// unique-ids again. Two messages with the same of both are one that is listed twice.
func keyOf(uid string, content []byte) string {
	sum := sha256.Sum256(append([]byte(uid+"\x00"), content...))
	return hex.EncodeToString(sum[:16])
}

// contentOf identifies a message by its content alone.
func contentOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:16])
}
