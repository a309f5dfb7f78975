// Package testdata carries real messages for tests and for mailhaul demo.
package testdata

import (
	"embed"
	"io/fs"
	"os"
)

// Messages holds messages/*.eml, each with LF line ends.
//
//go:embed messages/*.eml
var Messages embed.FS

// All returns the messages by their file names: those of Messages, and the
// *.eml of the folder that $MAILHAUL_MAIL names, for tests on more real mail
// than comes with the sources.
func All() (map[string]string, error) {
	all := map[string]string{}
	own, err := fs.Sub(Messages, "messages")
	if err != nil {
		return nil, err
	}
	folders := []fs.FS{own}
	if more := os.Getenv("MAILHAUL_MAIL"); more != "" {
		folders = append(folders, os.DirFS(more))
	}
	for _, folder := range folders {
		names, err := fs.Glob(folder, "*.eml")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := fs.ReadFile(folder, name)
			if err != nil {
				return nil, err
			}
			all[name] = string(text)
		}
	}
	return all, nil
}
