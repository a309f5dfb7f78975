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

// Password says where a secret comes from: the password of an account or a sink, the
// secret of an OAuth client, or an access token. One of the sources is set.
type Password struct {
	key string // password, client_secret or token; the options are key, key_file and so on
	// The secret itself is behind a pointer: fmt prints unexported fields whatever
	// methods their types have, but of a pointer only the address.
	text    *string
	file    string
	env     string
	command []string
	timeout time.Duration   // for file and command; 0 is defaultPasswordTimeout
	secrets *secretSettings // set if command is
}

// defaultPasswordTimeout leaves a person the time to unlock a key.
const defaultPasswordTimeout = 30 * time.Second

// IsSet reports whether the file says where the secret comes from.
func (pw Password) IsSet() bool { return pw.key != "" }

// secretReaders returns the readers for the four options of a secret: key itself,
// key_file, key_env and key_command. password finds the field that they set.
func secretReaders[T any](key string, password func(*T) *Password) keyReaders[T] {
	secretKeys[key] = true
	return keyReaders[T]{
		key:              func(p *parser, v value, t *T) { p.readSecretText(v, key, password(t)) },
		key + "_file":    func(p *parser, v value, t *T) { p.readSecretFile(v, key, password(t)) },
		key + "_env":     func(p *parser, v value, t *T) { p.readSecretEnv(v, key, password(t)) },
		key + "_command": func(p *parser, v value, t *T) { p.readSecretCommand(v, key, password(t)) },
	}
}

// variableReference matches ${NAME}, as people write it in files whose variables are
// expanded, such as those of docker compose. As a password it is almost certainly a
// mistake. $NAME is not matched: it may well be a password.
var variableReference = regexp.MustCompile(`^\$\{[A-Za-z_]\w*\}$`)

// readSecretText reads the secret itself.
func (p *parser) readSecretText(v value, key string, into *Password) {
	if p.secretLine == 0 {
		p.secretLine = v.line
	}
	s, ok := p.text(v)
	switch {
	case !ok || !p.checkNotTruncated(v):
	case variableReference.MatchString(s):
		p.fail(v, "write "+key+"_env and the name alone; if it really looks like this, put it into a file, for "+key+"_file",
			"is the name of a variable, not what it holds")
	default:
		into.key, into.text = key, &s
		p.display[v.nodeKey()] = maskedSecret
	}
}

// readSecretFile reads the name of a file that holds the secret.
func (p *parser) readSecretFile(v value, key string, into *Password) {
	if s, ok := p.path(v); ok {
		into.key, into.file = key, s
	}
}

// readSecretEnv reads the name of a variable that holds the secret.
func (p *parser) readSecretEnv(v value, key string, into *Password) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	// The message does not repeat s, which may be the secret itself.
	if strings.ContainsAny(s, "$= ") {
		p.fail(v, "write the name alone: MAIL_"+strings.ToUpper(key), "is not the name of a variable")
		return
	}
	into.key, into.env = key, s
	p.secrets.envVars = append(p.secrets.envVars, s)
}

// readSecretCommand reads a command that prints the secret.
func (p *parser) readSecretCommand(v value, key string, into *Password) {
	if argv := p.readCommand(v); argv != nil {
		into.key, into.command, into.secrets = key, argv, p.secrets
	}
}

// Read returns the secret. Its errors say what to do, and never hold the secret. It
// returns early when ctx is done.
func (pw Password) Read(ctx context.Context) (string, error) {
	switch {
	case pw.command != nil:
		return pw.runCommand(ctx)
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

// fileReads are the reads under way. A read may block for ever, so that each file is
// read by one goroutine only, however many ask for it and however often.
var fileReads singleflight.Group

// readFile returns the first line of the file. Reading it may block: the file may be
// a pipe, or be on a mount that hangs.
func (pw Password) readFile(ctx context.Context) (string, error) {
	timed, cancel := context.WithTimeout(ctx, pw.timeLimit())
	defer cancel()
	option := pw.key + "_file"
	read := fileReads.DoChan(option+" "+pw.file, func() (any, error) { return readPrivateLine(pw.file, pw.maxLength()) })
	select {
	case r := <-read:
		if r.Err != nil {
			return "", fmt.Errorf("%s: %w", option, r.Err)
		}
		return r.Val.(string), nil
	case <-timed.Done():
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: nothing comes from %s: %w", option, pw.file, ctx.Err())
		}
		return "", fmt.Errorf("%s: nothing came from %s within %s (password_timeout sets how long)", option, pw.file, pw.timeLimit())
	}
}

// readPrivateLine returns the first line of a file, which must not be readable by
// everyone.
func readPrivateLine(path string, maxLength int) (string, error) {
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
	s, err := firstLine(f, maxLength)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "", err // it names the path already
	}
	if err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	return s, nil
}

// commandSlot is held by a command that must not run beside others.
var commandSlot = make(chan struct{}, 1)

// runCommand returns the first line that the command prints.
//
// The command shares our terminal and process group, since an agent may have to ask
// for a passphrase there.
func (pw Password) runCommand(ctx context.Context) (string, error) {
	option := pw.key + "_command"
	if pw.secrets.serial {
		select {
		case commandSlot <- struct{}{}:
			defer func() { <-commandSlot }()
		case <-ctx.Done():
			return "", fmt.Errorf("%s: %w", option, ctx.Err())
		}
	}
	timed, cancel := context.WithTimeout(ctx, pw.timeLimit())
	defer cancel()
	cmd := exec.CommandContext(timed, pw.command[0], pw.command[1:]...)
	// A child that outlives the command and keeps the pipe open must not block us.
	cmd.WaitDelay = time.Second
	stdout, stderr := limitedBuffer{limit: pw.maxLength() + 1}, limitedBuffer{limit: 4096}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = pw.secrets.environ()
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", option, ctx.Err())
	case timed.Err() != nil:
		return "", fmt.Errorf("%s: no answer within %s (password_timeout sets how long)", option, pw.timeLimit())
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		// Standard error may repeat the secret.
		var secret mask.Set
		for line := range strings.Lines(stdout.data.String()) {
			secret.Add(strings.TrimSpace(line))
		}
		if message := strings.TrimSpace(secret.Text(stderr.data.String())); message != "" {
			return "", fmt.Errorf("%s: %w: %s", option, err, quote(message))
		}
		return "", fmt.Errorf("%s: %w", option, err)
	}
	s, err := firstLine(&stdout.data, pw.maxLength())
	if err != nil {
		return "", fmt.Errorf("%s: its output %w", option, err)
	}
	return s, nil
}

// timeLimit returns how long reading the file or running the command may take.
func (pw Password) timeLimit() time.Duration { return cmp.Or(pw.timeout, defaultPasswordTimeout) }

// maxLength returns how many bytes the secret may have. Access tokens that hold
// claims are longer than passwords.
func (pw Password) maxLength() int {
	if pw.key == "token" {
		return 16 << 10
	}
	return 4096
}

// limitedBuffer keeps the first limit bytes that are written to it.
type limitedBuffer struct {
	data  bytes.Buffer
	limit int
}

// Write never fails; it drops what is over the limit.
func (b *limitedBuffer) Write(text []byte) (int, error) {
	if room := b.limit - b.data.Len(); room > 0 {
		b.data.Write(text[:min(room, len(text))])
	}
	return len(text), nil
}

// firstLine returns the first line of r without its end, and without the byte order
// mark that some editors put before it. Errors of its own need a subject: "FILE is
// empty".
func firstLine(r io.Reader, maxLength int) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, int64(maxLength)+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), "\ufeff")
	switch {
	case strings.Contains(line, "\x00"):
		return "", errors.New("holds a NUL, as text in UTF-16 does: make it UTF-8")
	case line == "":
		return "", errors.New("is empty, or its first line is")
	case len(line) > maxLength:
		return "", fmt.Errorf("has a first line of more than %d bytes", maxLength)
	}
	return line, nil
}
