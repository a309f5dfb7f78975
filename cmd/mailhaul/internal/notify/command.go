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

// defaultTimeout is how long the command may take for one alert.
const defaultTimeout = time.Minute

// Command is the program that is run for each alert. It gets the facts in
// environment variables, and a text for a person on its standard input.
type Command struct {
	Argv    []string
	Timeout time.Duration // of a run; 0 is a minute, and others are for tests
	Server  string        // the account's server, host:port
}

// Run runs the command and waits for its end. For an alert without a Kind it
// does nothing.
func (c *Command) Run(ctx context.Context, a Alert) error {
	if a.Kind == "" {
		return nil
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil {
		return err
	}
	text, err := tempFile(a.text())
	if err != nil {
		return err
	}
	defer text.Close()
	run := program.Run{
		Path: path, Name: c.Argv[0], Args: c.Argv[1:], Env: c.env(a), Stdin: text, Timeout: c.Timeout,
	}
	if run.Timeout <= 0 {
		run.Timeout = defaultTimeout
	}
	exit, err := run.Do(ctx)
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return errors.New(exit.Text)
	}
	return nil
}

// env returns the environment variables for an alert. Text that a server controls
// is made safe by shortLine.
func (c *Command) env(a Alert) []string {
	errText := a.Warning.Text
	if err := a.err(); err != nil {
		errText = err.Error()
	}
	if a.Kind == Refused {
		errText = a.Refused[0].Reason
	}
	return []string{
		"MAILHAUL_EVENT=" + string(a.Kind),
		"MAILHAUL_SUMMARY=" + a.String(),
		"MAILHAUL_ACCOUNT=" + a.Summary.Account,
		"MAILHAUL_SERVER=" + c.Server,
		"MAILHAUL_RESULT=" + a.Summary.Class.String(),
		"MAILHAUL_ERROR=" + shortLine(errText),
		"MAILHAUL_HINT=" + shortLine(fetch.Hint(a.err())),
		"MAILHAUL_SINCE=" + formatTime(a.Since),
		"MAILHAUL_LAST_SUCCESS=" + formatTime(a.LastSuccess),
		fmt.Sprintf("MAILHAUL_REFUSED=%d", len(a.Refused)),
	}
}

// shortLine returns text as one line without control characters, cut to a length
// that an environment variable can have.
func shortLine(s string) string {
	const maxBytes = 2000
	s = oneline.Of(s)
	if len(s) > maxBytes {
		s = strings.ToValidUTF8(s[:maxBytes], "") + "…"
	}
	return s
}

// tempFile returns an open file with the text, at its beginning. The file has no
// name: it goes when it is closed.
func tempFile(text string) (*os.File, error) {
	f, err := os.CreateTemp("", "mailhaul-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // on failure a small file stays behind
	if _, err = io.WriteString(f, text); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
