package mbox_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

var fromLine = regexp.MustCompile(`\AFrom \S+ (Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d \d{4}\n`)

// split returns the messages of an mbox in mboxrd format: each begins with a From_ line and
// ends with an empty line, and one ">" is removed from each quoted line.
func split(mbox string) ([]string, error) {
	var messages []string
	for rest := mbox; rest != ""; {
		line := fromLine.FindString(rest)
		if line == "" {
			return nil, fmt.Errorf("no From_ line at %.60q", rest)
		}
		rest = rest[len(line):]
		var message strings.Builder
		for rest != "" && !strings.HasPrefix(rest, "From ") {
			line, after, ended := strings.Cut(rest, "\n")
			if !ended {
				return nil, fmt.Errorf("the last line is not ended: %.60q", line)
			}
			if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") {
				line = line[1:]
			}
			message.WriteString(line + "\n")
			rest = after
		}
		m, ok := strings.CutSuffix(message.String(), "\n")
		if !ok || m != "" && !strings.HasSuffix(m, "\n") {
			return nil, errors.New("no empty line at the end")
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// canon returns a message in wire form as the sink stores it: with LF line ends, also after
// the last line.
func canon(wire string) string {
	s := strings.ReplaceAll(wire, "\r\n", "\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// readFile returns the content of a file. A missing file is empty.
func readFile(fsys durable.FS, path string) (string, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}
