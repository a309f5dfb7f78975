package config

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

// Password is where a secret comes from: an account's password, a client's
// secret, an access token.
type Password struct {
	key string // the first word of its keys
	// fmt prints what is in an unexported field, whatever methods that has: of a
	// pointer, the address.
	text           *string
	file           string
	env            string
	command        []string
	secretVars     *[]string // variables that the command is not given
	serialCommands *bool
	timeout        time.Duration
}

// defaultPasswordTimeout leaves a person the time to unlock a key.
const defaultPasswordTimeout = 30 * time.Second

// IsSet reports whether there is a place that the secret comes from.
func (pw Password) IsSet() bool { return pw.key != "" }

// secretKeys are the keys of a secret, by their first word. of is where it
// goes.
func secretReaders[T any](what string, of func(*T) *Password) keyReaders[T] {
	secretKeys[what] = true
	return keyReaders[T]{
		what:              func(p *parser, v value, t *T) { p.readSecretText(v, what, of(t)) },
		what + "_file":    func(p *parser, v value, t *T) { p.readSecretFile(v, what, of(t)) },
		what + "_env":     func(p *parser, v value, t *T) { p.readSecretEnv(v, what, of(t)) },
		what + "_command": func(p *parser, v value, t *T) { p.readSecretCommand(v, what, of(t)) },
	}
}

// aVariable is what people write in files in which variables are filled in, as those
// of docker compose. A password is taken as it is, and this would be a wrong one. (Without
// the braces it may well be right.)
var variableReference = regexp.MustCompile(`^\$\{[A-Za-z_]\w*\}$`)

// secretText reads the secret itself.
func (p *parser) readSecretText(v value, what string, into *Password) {
	if p.secretLine == 0 {
		p.secretLine = v.line
	}
	s, ok := p.text(v)
	switch {
	case !ok || !p.checkNotTruncated(v):
	case variableReference.MatchString(s):
		p.fail(v, "write "+what+"_env and the name alone; if it really looks like this, put it into a file, for "+what+"_file",
			"is the name of a variable, not what it holds")
	default:
		into.key, into.text = what, &s
		p.display[v.nodeKey()] = maskedSecret
	}
}

// secretFile reads the name of a file that holds the secret.
func (p *parser) readSecretFile(v value, what string, into *Password) {
	if s, ok := p.path(v); ok {
		into.key, into.file = what, s
	}
}

// secretEnv reads the name of a variable that holds the secret.
func (p *parser) readSecretEnv(v value, what string, into *Password) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	// What stands here may be the secret itself, so it is not repeated.
	if strings.ContainsAny(s, "$= ") {
		p.fail(v, "write the name alone: MAIL_"+strings.ToUpper(what), "is not the name of a variable")
		return
	}
	into.key, into.env = what, s
	*p.secretVars = append(*p.secretVars, s)
}

// secretCommand reads a command that prints the secret.
func (p *parser) readSecretCommand(v value, what string, into *Password) {
	if argv := p.readCommand(v); argv != nil {
		into.key, into.command, into.secretVars, into.serialCommands = what, argv, p.secretVars, p.serialCommands
	}
}

// Read returns the secret. Its errors say what to do and do not hold the
// secret. It returns early when ctx is done.
func (pw Password) Read(ctx context.Context) (string, error) {
	switch {
	case pw.command != nil:
		return pw.run(ctx)
	case pw.file != "":
		return pw.readFile(ctx)
	case pw.env != "":
		s, ok := os.LookupEnv(pw.env)
		if !ok || s == "" {
			return "", fmt.Errorf("%s_env: the variable %s is not set", pw.key, pw.env)
		}
		return s, nil
	case pw.text != nil:
		return *pw.text, nil
	default:
		return "", errors.New("there is none")
	}
}

// reading are the files that are being read, each by one goroutine, however many
// ask for it and however often.
var fileReads singleflight.Group

// readFile returns the first line of the file, which may block: it may be a pipe,
// or stand on a mount that hangs.
func (pw Password) readFile(ctx context.Context) (string, error) {
	timed, cancel := context.WithTimeout(ctx, pw.timeLimit())
	defer cancel()
	key := pw.key + "_file"
	read := fileReads.DoChan(key+" "+pw.file, func() (any, error) { return firstLineOfSecret(pw.file, pw.maxLength()) })
	select {
	case r := <-read:
		if r.Err != nil {
			return "", fmt.Errorf("%s: %w", key, r.Err)
		}
		return r.Val.(string), nil
	case <-timed.Done():
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: nothing comes from %s: %w", key, pw.file, ctx.Err())
		}
		return "", fmt.Errorf("%s: nothing came from %s within %s (password_timeout sets how long)", key, pw.file, pw.timeLimit())
	}
}

// readSecretFile returns the first line of a file that is not for everyone.
func firstLineOfSecret(path string, longest int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("everyone can read %s: chmod 600 %[1]s", path)
	}
	s, err := firstLine(f, longest)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "", err // which names the path
	}
	if err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	return s, nil
}

// asking is taken by a command that is not to run beside others.
var commandSlot = make(chan struct{}, 1)

// run returns the first line that the command prints.
//
// The command shares our terminal and process group, since an agent may have
// to ask for a passphrase there.
func (pw Password) run(ctx context.Context) (string, error) {
	key := pw.key + "_command"
	if *pw.serialCommands {
		select {
		case commandSlot <- struct{}{}:
			defer func() { <-commandSlot }()
		case <-ctx.Done():
			return "", fmt.Errorf("%s: %w", key, ctx.Err())
		}
	}
	timed, cancel := context.WithTimeout(ctx, pw.timeLimit())
	defer cancel()
	cmd := exec.CommandContext(timed, pw.command[0], pw.command[1:]...)
	// A child that outlives the command must not hold us by its end of the pipe.
	cmd.WaitDelay = time.Second
	stdout, stderr := limitedBuffer{limit: pw.maxLength() + 1}, limitedBuffer{limit: 4096}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = environWithout(*pw.secretVars)
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", key, ctx.Err())
	case timed.Err() != nil:
		return "", fmt.Errorf("%s: no answer within %s (password_timeout sets how long)", key, pw.timeLimit())
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		// It may have told the secret twice.
		var secret mask.Set
		for line := range strings.Lines(stdout.data.String()) {
			secret.Add(strings.TrimSpace(line))
		}
		if said := strings.TrimSpace(secret.Text(stderr.data.String())); said != "" {
			return "", fmt.Errorf("%s: %w: %s", key, err, quote(said))
		}
		return "", fmt.Errorf("%s: %w", key, err)
	}
	s, err := firstLine(&stdout.data, pw.maxLength())
	if err != nil {
		return "", fmt.Errorf("%s: its output %w", key, err)
	}
	return s, nil
}

// limit returns how long a command may take, and a file that blocks.
func (pw Password) timeLimit() time.Duration { return cmp.Or(pw.timeout, defaultPasswordTimeout) }

// longest returns how many bytes the secret may have. Access tokens that hold
// claims are longer than passwords.
func (pw Password) maxLength() int {
	if pw.key == "token" {
		return 16 << 10
	}
	return 4096
}

// head keeps the first bytes written to it.
type limitedBuffer struct {
	data  bytes.Buffer
	limit int
}

// Write keeps what fits and takes the rest as written.
func (h *limitedBuffer) Write(b []byte) (int, error) {
	if room := h.limit - h.data.Len(); room > 0 {
		h.data.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// firstLine returns the first line of r without its end, and without the mark of
// UTF-8 that some editors put before it.
func firstLine(r io.Reader, longest int) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, int64(longest)+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), "\ufeff")
	switch {
	case strings.Contains(line, "\x00"):
		return "", errors.New("holds a NUL, as text in UTF-16 does: make it UTF-8")
	case line == "":
		return "", errors.New("is empty, or its first line is")
	case len(line) > longest:
		return "", fmt.Errorf("has a first line of more than %d bytes", longest)
	}
	return line, nil
}
