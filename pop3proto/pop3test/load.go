package pop3test

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// LoadDir adds each file of fsys that matches glob (see path.Match) to m, in
// the order of their names, and returns how many. The UID of a message is
// its file's name without folder and extension.
func (s *Server) LoadDir(m *Maildrop, fsys fs.FS, glob string) (n int, err error) {
	names, err := fs.Glob(fsys, glob)
	if err != nil {
		return 0, fmt.Errorf("pop3test: pattern %q: %w", glob, err)
	}
	for _, name := range names {
		raw, err := fs.ReadFile(fsys, name)
		if err != nil {
			return n, fmt.Errorf("pop3test: %w", err)
		}
		base := path.Base(name)
		m.Add(strings.TrimSuffix(base, path.Ext(base)), raw)
		n++
	}
	return n, nil
}
