package config

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// passwordKeys are the places that a password can come from.
var passwordKeys = []string{"password", "password_file", "password_env", "password_command"}

// Password is where an account's password comes from.
type Password struct {
	text    Secret
	file    string
	env     string
	command []string
	timeout time.Duration
}

// defaultPasswordTimeout leaves a person the time to unlock a key.
const defaultPasswordTimeout = 30 * time.Second

// from returns the source s with the time limit of the one it replaces.
func (pw Password) from(s Password) Password {
	s.timeout = pw.timeout
	return s
}

func (p *parser) password(v value, a *Account) {
	if p.secretLine == 0 {
		p.secretLine = v.line
	}
	if s, ok := p.text(v); ok {
		a.Password = a.Password.from(Password{text: NewSecret(s)})
	}
}

func (p *parser) passwordFile(v value, a *Account) {
	if s, ok := p.path(v); ok {
		a.Password = a.Password.from(Password{file: s})
	}
}

func (p *parser) passwordEnv(v value, a *Account) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	// What stands here may be the password itself, so it is not repeated.
	if strings.ContainsAny(s, "$= ") {
		p.fail(v, "write the name alone: MAIL_PASSWORD", "is not the name of a variable")
		return
	}
	a.Password = a.Password.from(Password{env: s})
}

// passwordCommand reads a line for the shell, or a program and its arguments.
func (p *parser) passwordCommand(v value, a *Account) {
	words, ok := p.texts(v)
	if !ok {
		return
	}
	if len(v.node.Content) == 0 {
		words = []string{"sh", "-c", words[0]}
	}
	a.Password = a.Password.from(Password{command: words})
}

// Read returns the password. Its errors say what to do and do not hold the
// password. It returns early when ctx is done.
func (pw Password) Read(ctx context.Context) (string, error) {
	switch {
	case pw.command != nil:
		return pw.run(ctx)
	case pw.file != "":
		return readPasswordFile(pw.file)
	case pw.env != "":
		s, ok := os.LookupEnv(pw.env)
		if !ok || s == "" {
			return "", fmt.Errorf("password_env: the variable %s is not set", pw.env)
		}
		return s, nil
	default:
		return pw.text.Reveal(), nil
	}
}

// readPasswordFile returns the first line of a file that is not for everyone.
func readPasswordFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("password_file: everyone can read %s: chmod 600 %[1]s", path)
	}
	s, err := firstLine(f)
	if err != nil {
		return "", fmt.Errorf("password_file: %s %w", path, err)
	}
	return s, nil
}

// run returns the first line that the command prints.
//
// The command shares our terminal and process group, since an agent may have
// to ask for a passphrase there.
func (pw Password) run(ctx context.Context) (string, error) {
	limit := pw.timeout
	if limit == 0 {
		limit = defaultPasswordTimeout
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(timed, pw.command[0], pw.command[1:]...)
	// A child that outlives the command must not hold us by its end of the pipe.
	cmd.WaitDelay = time.Second
	var stdout, stderr head
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("password_command: %w", ctx.Err())
	case timed.Err() != nil:
		return "", fmt.Errorf("password_command: no answer within %s (password_timeout sets how long)", limit)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		if said := strings.TrimSpace(stderr.kept.String()); said != "" {
			return "", fmt.Errorf("password_command: %w: %s", err, quote(said))
		}
		return "", fmt.Errorf("password_command: %w", err)
	}
	s, err := firstLine(&stdout.kept)
	if err != nil {
		return "", fmt.Errorf("password_command: its output %w", err)
	}
	return s, nil
}

// head keeps the first bytes written to it.
type head struct{ kept bytes.Buffer }

const maxPassword = 4096

// Write keeps what fits and takes the rest as written.
func (h *head) Write(b []byte) (int, error) {
	if room := maxPassword + 1 - h.kept.Len(); room > 0 {
		h.kept.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// firstLine returns the first line of r without its end.
func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPassword+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	switch {
	case line == "":
		return "", errors.New("is empty, or its first line is")
	case len(line) > maxPassword:
		return "", fmt.Errorf("has a first line of more than %d bytes", maxPassword)
	}
	return line, nil
}
