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

// split reads an mbox as its form demands: each message begins with a From_
// line and ends with an empty line, and one ">" is taken off each quoted line.
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

// canon is what the sink makes of a message in wire form: LF line ends, and
// one at the end of the last line.
func canon(wire string) string {
	s := strings.ReplaceAll(wire, "\r\n", "\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// readFile returns a whole file; one that is missing is empty.
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
