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

// File adds metrics to a text file. Each Write adds what the process has counted to what
// the file holds, so that counters grow from run to run, and several processes may share
// the file. Only Write waits for the disk.
type File struct {
	path  string
	build Build

	mu       sync.Mutex
	accounts []string
	pending  *Metrics // not in the file yet

	writing   sync.Mutex
	unwritten *Metrics // what a failed Write took from pending
}

// NewFile returns metrics for the file at path. success holds, for each account, the
// argument of Metrics.SetSuccess.
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

// SetAccounts sets the accounts, and when each new one last succeeded.
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

// Observe counts an event. The next Write adds it to the file.
func (f *File) Observe(e fetch.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending.Observe(e)
}

// Write adds what was counted to the file. It replaces the file atomically, but does not
// sync it: if a power cut loses the file, Prometheus sees a restart.
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
	defer dir.Close() // releases the lock
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

// readFile returns the metrics in the file at path, none if it is missing or damaged.
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

// writeFile replaces the file at path, in a folder that the caller has locked. Everybody
// may read the file, since the collector runs as another user. The temporary file has a
// fixed name, so that the text of an error stays the same.
func writeFile(path string, families []*dto.MetricFamily) error {
	next := path + ".tmp"
	_ = os.Remove(next) // which a killed process may have left
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
