package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Store keeps grants, each in a file of its own, in a folder that only their owner may
// enter.
type Store struct{ dir string }

// NewStore returns the store in the folder oauth of an existing state folder. Save
// creates the folder.
func NewStore(state string) *Store { return &Store{filepath.Join(state, "oauth")} }

// grantFile is the JSON form of a grant.
type grantFile struct {
	Provider  string    `json:"provider"`
	User      string    `json:"user"`
	Scopes    []string  `json:"scopes"`
	Granted   time.Time `json:"granted"`
	Refreshed time.Time `json:"refreshed"`
	Expires   time.Time `json:"expires,omitzero"`
	Refresh   string    `json:"refresh_token"`
}

const maxGrantFile = 64 << 10

// Load returns the grant of a client. If there is none, or others could have
// read it, the error is a *GrantError.
func (s *Store) Load(c *Client) (Grant, error) {
	path := s.path(c, ".json")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "nobody has logged in yet", Advice: c.loginAdvice()}
	}
	if err != nil {
		return Grant{}, err
	}
	defer f.Close()
	for _, at := range []string{path, s.dir} {
		info, err := os.Stat(at)
		if err != nil {
			return Grant{}, err
		}
		if perm := info.Mode().Perm(); perm&0o077 != 0 {
			return Grant{}, &GrantError{Provider: c.Provider.Name, Text: fmt.Sprintf("others may read %s (mode %04o)", at, perm),
				Advice: fmt.Sprintf("chmod go= %q; if somebody may have read it, withdraw the access at the provider, and %s", at, c.loginAdvice())}
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxGrantFile))
	if err != nil {
		return Grant{}, err
	}
	var w grantFile
	if json.Unmarshal(text, &w) != nil || !isToken(w.Refresh) {
		// The parser's error might quote the secret in the file.
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: path + " is damaged", Advice: c.loginAdvice()}
	}
	return Grant{w.Provider, w.User, w.Scopes, w.Granted, w.Refreshed, w.Expires, &w.Refresh}, nil
}

// Save stores the grant of a client durably, in place of an earlier one. It waits for
// a process that is refreshing the earlier one.
func (s *Store) Save(ctx context.Context, c *Client, g Grant) error {
	if err := s.makeFolder(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, c)
	if err != nil {
		return err
	}
	defer unlock()
	file, err := s.reserveFile(c)
	if err != nil {
		return err
	}
	defer file.release()
	return file.write(g)
}

// reservedFile is a new file as large as the largest grant, so that a grant that is not
// known yet can be stored even if the disk is full by then.
type reservedFile struct {
	path string   // of the grant
	f    *os.File // nil once renamed to path
}

// reserveFile reserves a file for the grant of a client, whose lock must be held. It
// reuses one that a crash has left.
func (s *Store) reserveFile(c *Client) (*reservedFile, error) {
	r := &reservedFile{path: s.path(c, ".json")}
	var err error
	if r.f, err = os.OpenFile(r.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	_, err = r.f.Write(bytes.Repeat([]byte{' '}, maxGrantFile))
	if err = errors.Join(err, r.f.Sync()); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// write writes a grant and renames the file in place, so that there is a whole grant at
// any moment: write, sync, rename, sync the folder.
func (r *reservedFile) write(g Grant) error {
	text, err := json.MarshalIndent(grantFile{g.Provider, g.User, g.Scopes, g.Granted, g.Refreshed, g.Expires, *g.refresh}, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	_, err = r.f.WriteAt(text, 0)
	if err = errors.Join(err, r.f.Truncate(int64(len(text))), r.f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(r.f.Name(), r.path); err != nil {
		return err
	}
	err = r.f.Close()
	r.f = nil
	return errors.Join(err, durable.OS.SyncDir(filepath.Dir(r.path)))
}

// release removes the file, unless write has renamed it.
func (r *reservedFile) release() {
	if r.f != nil {
		_ = r.f.Close()
		_ = os.Remove(r.f.Name()) // if this fails, reserveFile reuses the file
	}
}

func (s *Store) path(c *Client, suffix string) string {
	return filepath.Join(s.dir, c.Key()+suffix)
}

func (s *Store) makeFolder() error {
	err := os.Mkdir(s.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, durable.OS.SyncDir(filepath.Dir(s.dir)))
}
