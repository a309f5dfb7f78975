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

// Store keeps grants, each in a file of its own, in a folder that is for
// their owner alone.
type Store struct{ dir string }

// NewStore returns the store in the folder oauth of a state folder, which
// exists. The folder is made when the first grant is saved.
func NewStore(state string) *Store { return &Store{filepath.Join(state, "oauth")} }

// file is a grant as it is written.
type file struct {
	Provider  string    `json:"provider"`
	User      string    `json:"user"`
	Scopes    []string  `json:"scopes"`
	Granted   time.Time `json:"granted"`
	Refreshed time.Time `json:"refreshed"`
	Expires   time.Time `json:"expires,omitzero"`
	Refresh   string    `json:"refresh_token"`
}

const maxFile = 64 << 10

// Load returns the grant of a client. If there is none, or others could have
// read it, the error is a *GrantError.
func (s *Store) Load(c *Client) (Grant, error) {
	path := s.path(c, ".json")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "nobody has logged in yet", Advice: c.login()}
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
				Advice: fmt.Sprintf("chmod go= %q; if somebody may have read it, withdraw the access at the provider, and %s", at, c.login())}
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return Grant{}, err
	}
	var w file
	if json.Unmarshal(text, &w) != nil || !isToken(w.Refresh) {
		// What is in the file is a secret, even if it is damaged.
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: path + " is damaged", Advice: c.login()}
	}
	return Grant{w.Provider, w.User, w.Scopes, w.Granted, w.Refreshed, w.Expires, &w.Refresh}, nil
}

// Save keeps the grant of a client, in place of any other. When it returns,
// the grant is durable. It waits for a process that is refreshing the old one.
func (s *Store) Save(ctx context.Context, c *Client, g Grant) error {
	if err := s.makeFolder(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, c)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.makeRoom(c)
	if err != nil {
		return err
	}
	defer r.giveBack()
	return r.keep(g)
}

// room is a new file that is as large as a grant can be, so that one that is
// not known yet can be kept even if the disk is full by then.
type room struct {
	path string   // of the grant
	f    *os.File // nil once it has the name
}

// makeRoom makes room for the grant of a client, whose lock keeps others from the
// same name. A crash may have left the file.
func (s *Store) makeRoom(c *Client) (*room, error) {
	r := &room{path: s.path(c, ".json")}
	var err error
	if r.f, err = os.OpenFile(r.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	_, err = r.f.Write(bytes.Repeat([]byte{' '}, maxFile))
	if err = errors.Join(err, r.f.Sync()); err != nil {
		r.giveBack()
		return nil, err
	}
	return r, nil
}

// keep writes a grant and then gives the file its name, so that there is always
// a whole one: write, sync, rename, sync the folder.
func (r *room) keep(g Grant) error {
	text, err := json.MarshalIndent(file{g.Provider, g.User, g.Scopes, g.Granted, g.Refreshed, g.Expires, *g.refresh}, "", "  ")
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

// giveBack removes the file unless a grant was kept.
func (r *room) giveBack() {
	if r.f != nil {
		_ = r.f.Close()
		_ = os.Remove(r.f.Name()) // the next one to make room takes it
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
