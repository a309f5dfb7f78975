package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "state",
		Usage:     "manage what mailhaul remembers: list, retry, forget, adopt, rename, export, import",
		ArgsUsage: "COMMAND",
		Description: "All that change something, except retry, show what they would do and ask first; if\n" +
			"the answer is no, the exit code is 77. They do not wait for a fetch: an account that\n" +
			"is being polled is left alone, with exit code 75.",
		OnUsageError: badFlag,
		Subcommands: []*cli.Command{
			stateListCommand(std),
			stateRetryCommand(std),
			stateForgetCommand(std),
			stateAdoptCommand(std),
			stateRenameCommand(std),
			stateExportCommand(std),
			stateImportCommand(std),
			hiddenHelpCommand(std),
		},
		Action: requireSubcommand,
	}
}

// loadConfigAndStateReadOnly reads the configuration at path and opens its state database for
// reading. The caller must call done.
func loadConfigAndStateReadOnly(ctx context.Context, path string) (cfg *config.Config, store *state.Store, done func(), err error) {
	if cfg, err = loadConfig(path); err != nil {
		return nil, nil, nil, err
	}
	store, done, err = openStateReadOnly(ctx, cfg.State)
	return cfg, store, done, err
}

// openStateReadOnly opens the state database in dir for reading. If there is none it
// creates none there, but opens an empty one that done removes.
func openStateReadOnly(ctx context.Context, dir string) (store *state.Store, done func(), err error) {
	store, err = state.OpenReadOnly(ctx, dir)
	if err == nil {
		return store, func() { store.Close() }, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	empty, err := os.MkdirTemp("", "mailhaul-")
	if err != nil {
		return nil, nil, &failure{err, exitMachine, "set TMPDIR to a folder that can be written to"}
	}
	store, err = state.Open(ctx, empty)
	if err != nil {
		os.RemoveAll(empty)
		return nil, nil, err
	}
	return store, func() { store.Close(); os.RemoveAll(empty) }, nil
}

// loadConfigAndState reads the configuration and opens its state database for changes. The
// database must exist.
func loadConfigAndState(ctx context.Context, path string) (*config.Config, *state.Store, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	// OpenReadOnly, unlike Open, does not create the database.
	reader, err := state.OpenReadOnly(ctx, cfg.State)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, usagef("", "nothing is remembered in %s", cfg.State)
	case err == nil:
		reader.Close()
	} // any other error is also that of Open
	store, err := state.Open(ctx, cfg.State)
	return cfg, store, err
}

// rememberedAccount returns an account of the state database, or a usage error that
// names those in it.
func rememberedAccount(ctx context.Context, cfg *config.Config, store *state.Store, name string) (state.Account, error) {
	all, err := store.Accounts(ctx)
	if err != nil {
		return state.Account{}, err
	}
	var names []string
	for _, a := range all {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	hint := ""
	if len(names) > 0 {
		hint = "remembered are " + listNames(names)
	}
	return state.Account{}, usagef(hint, "nothing is remembered of an account %q in %s", name, cfg.State)
}

// leaseAccount opens the state database for changes of an account, and takes the lease
// of the account, so that nobody polls it until done is called.
func leaseAccount(ctx context.Context, path, name string) (cfg *config.Config, store *state.Store, done func(), err error) {
	if cfg, store, err = loadConfigAndState(ctx, path); err != nil {
		return nil, nil, nil, err
	}
	var lease *state.Lease
	if _, err = rememberedAccount(ctx, cfg, store, name); err == nil {
		lease, err = store.Lease(ctx, name)
	}
	if err != nil {
		store.Close()
		return nil, nil, nil, err
	}
	return cfg, store, func() {
		lease.Release()
		store.Close()
	}, nil
}

// findMessages returns the rows of the messages that args name, each row once. It fails
// if there is no row for one of them.
func findMessages(ctx context.Context, store *state.Store, account string, args []string) (rows []state.Row, err error) {
	for _, arg := range args {
		row, found, err := findMessage(ctx, store, account, arg)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, usagef("", "%s: nothing is remembered of a message %q", account, arg)
		}
		if !slices.ContainsFunc(rows, func(r state.Row) bool { return r.UID == row.UID }) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}
