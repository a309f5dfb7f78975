package metrics

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mailhaul/mailhaul/fetch"
)

// File keeps metrics in a text file. The file is their memory: what a process
// counted is added to what the file says, so that counters grow from one run to
// the next and several processes may count into one file. Only Write waits for
// the disk.
type File struct {
	path  string
	build Build

	mu       sync.Mutex
	accounts []string
	pending  *Metrics // what the file does not have yet

	writing   sync.Mutex
	unwritten *Metrics // what a Write took of pending and could not bring into the file
}

// NewFile returns metrics of accounts that are kept at path. success has what
// Metrics.SetSuccess is to be told of each of them.
func NewFile(path string, b Build, accounts []string, success map[string]time.Time) *File {
	f := &File{path: path, build: b, accounts: accounts}
	f.pending = f.newMetrics()
	for _, account := range accounts {
		f.pending.SetSuccess(account, success[account])
	}
	return f
}

func (f *File) newMetrics() *Metrics {
	m := New(f.build)
	m.SetAccounts(f.accounts)
	return m
}

// SetAccounts says which accounts there are now, and when those that are new last
// did well.
func (f *File) SetAccounts(names []string, success map[string]time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending.SetAccounts(names)
	for _, account := range names {
		if !slices.Contains(f.accounts, account) {
			f.pending.SetSuccess(account, success[account])
		}
	}
	f.accounts = names
}

// Observe counts an event; the file gets it with the next Write.
func (f *File) Observe(e fetch.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending.Observe(e)
}

// Write adds what was counted to the file. The file is replaced in one step,
// so that a reader sees the old one or the new one; a power cut may still lose
// it, which to Prometheus is a restart.
func (f *File) Write() error {
	f.writing.Lock()
	defer f.writing.Unlock()
	if f.unwritten != nil {
		if err := f.addToFile(f.unwritten); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.unwritten, f.pending = f.pending, f.newMetrics()
	f.mu.Unlock()
	err := f.addToFile(f.unwritten)
	if err == nil {
		f.unwritten = nil
	}
	return err
}

func (f *File) addToFile(m *Metrics) error {
	now, err := m.registry.Gather()
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close() // which lets go of the lock
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return &os.PathError{Op: "lock", Path: dir.Name(), Err: err}
	}
	before, err := readFile(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	accounts := f.accounts
	f.mu.Unlock()
	return writeFile(f.path, merge(before, now, accounts))
}

// readFile returns what the file at path says. A file that is missing or
// damaged says nothing.
func readFile(path string) (map[string]*dto.MetricFamily, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(file)
	if err != nil {
		return nil, nil
	}
	return families, nil
}

// writeFile replaces the file at path, in a folder that the caller has locked.
// Everybody may read it, since the collector runs as somebody else. The new file
// is always called the same, so that the same trouble is told in the same words.
func writeFile(path string, families []*dto.MetricFamily) error {
	next := path + ".tmp"
	_ = os.Remove(next) // a process that was killed may have left it
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = errors.Join(file.Chmod(0o644), encode(file, families), file.Close())
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
	}
	return err
}

func encode(to io.Writer, families []*dto.MetricFamily) error {
	enc := expfmt.NewEncoder(to, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return err
		}
	}
	return nil
}
