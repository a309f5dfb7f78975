package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/fetch"
)

// defaultTimeout is how long the command may take for one piece of news.
const defaultTimeout = time.Minute

// Command is the program that is run for each piece of news. It finds the
// facts in its environment, and the same as text for a person on its standard
// input.
type Command struct {
	Argv []string
	// Timeout bounds a run; 0 is a minute.
	Timeout time.Duration
	Server  string // the address of the account's server
}

// Run runs the command and waits for its end. With nothing to tell it does
// nothing.
func (c *Command) Run(ctx context.Context, n News) error {
	if n.Kind == "" {
		return nil
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil {
		return err
	}
	text, err := tempFile(n.text())
	if err != nil {
		return err
	}
	defer text.Close()
	run := program.Run{
		Path: path, Name: c.Argv[0], Args: c.Argv[1:], Env: c.env(n), Stdin: text, Timeout: c.Timeout,
	}
	if run.Timeout <= 0 {
		run.Timeout = defaultTimeout
	}
	exit, err := run.Do(ctx)
	if err == nil && exit.Code != 0 {
		err = errors.New(exit.Text)
	}
	return err
}

// env returns the facts. Text of servers is made safe: one line, no control
// characters, not too long for an environment.
func (c *Command) env(n News) []string {
	s := n.Summary
	errText := n.Warning.Text
	if err := n.err(); err != nil {
		errText = err.Error()
	}
	if n.Kind == Refused {
		errText = n.Refused[0].Reason
	}
	return []string{
		"MAILHAUL_EVENT=" + string(n.Kind),
		"MAILHAUL_SUMMARY=" + n.String(),
		"MAILHAUL_ACCOUNT=" + s.Account,
		"MAILHAUL_SERVER=" + c.Server,
		"MAILHAUL_RESULT=" + s.Class.String(),
		"MAILHAUL_ERROR=" + oneLine(errText),
		"MAILHAUL_HINT=" + oneLine(fetch.Hint(n.err())),
		"MAILHAUL_SINCE=" + formatTime(n.Since),
		"MAILHAUL_LAST_SUCCESS=" + formatTime(n.LastSuccess),
		fmt.Sprintf("MAILHAUL_REFUSED=%d", len(n.Refused)),
	}
}

// formatTime returns a time by RFC 3339 in UTC, "" for never.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// oneLine makes text fit for one variable or one line.
func oneLine(s string) string {
	const most = 2000
	s = oneline.Of(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// tempFile returns a file without a name that holds text.
func tempFile(text string) (*os.File, error) {
	f, err := os.CreateTemp("", "mailhaul-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // else a file of a few lines stays
	if _, err = io.WriteString(f, text); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
