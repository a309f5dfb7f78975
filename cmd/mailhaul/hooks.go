package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/fetch"
)

// setHooks sets the preconnect and postpoll hooks of an account as configured.
func (w *wiring) setHooks(a *fetch.Account, c config.Account) {
	if h := c.Preconnect; h != nil {
		a.Server.Preconnect = func(ctx context.Context) error {
			return w.runHook(ctx, "preconnect", h, "MAILHAUL_ACCOUNT="+a.Name)
		}
	}
	if h := c.Postpoll; h != nil {
		a.Postpoll = func(ctx context.Context, s fetch.Summary) error {
			return w.runHook(ctx, "postpoll", h, pollEnviron(s)...)
		}
	}
}

// pollEnviron returns the environment variables that describe a poll to a postpoll command.
func pollEnviron(s fetch.Summary) []string {
	text := ""
	if s.Err != nil {
		text = clean(s.Err.Error())
	}
	return []string{
		"MAILHAUL_ACCOUNT=" + s.Account,
		"MAILHAUL_RESULT=" + s.Class.String(),
		fmt.Sprint("MAILHAUL_FETCHED=", s.Fetched),
		fmt.Sprint("MAILHAUL_BYTES=", s.Octets),
		fmt.Sprint("MAILHAUL_DROPPED=", s.Dropped),
		fmt.Sprint("MAILHAUL_DELETED=", s.Deleted),
		fmt.Sprint("MAILHAUL_REFUSED=", s.Refused),
		"MAILHAUL_ERROR=" + text,
	}
}

// runHook runs a command in a process group of its own. What the command leaves running
// in the background may outlive it. It gets the environment of mailhaul without the
// secrets, in which ssh, for example, finds its agent; programs that see mail do not.
func (w *wiring) runHook(ctx context.Context, name string, h *config.Hook, env ...string) error {
	path, err := exec.LookPath(h.Argv[0])
	if err != nil {
		return &fetch.HookError{Hook: name, Err: err, Person: true}
	}
	command := program.Run{
		Path: path, Name: h.Argv[0], Args: h.Argv[1:], Env: slices.Concat(w.env, env), Timeout: h.Timeout,
	}
	exit, err := command.Do(ctx)
	_, notStarted := errors.AsType[*program.StartError](err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &fetch.HookError{Hook: name, Err: err, Person: notStarted}
	case exit.Code != 0:
		return &fetch.HookError{Hook: name, Err: errors.New(exit.Text), Person: exit.CannotRun()}
	}
	return nil
}
