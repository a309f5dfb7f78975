package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// lookUp reads the configuration at path and opens what is remembered, for
// reading.
func lookUp(ctx context.Context, path string) (cfg *config.Config, store *state.Store, done func(), err error) {
	if cfg, err = loadConfig(path); err != nil {
		return nil, nil, nil, err
	}
	store, done, err = readState(ctx, cfg.State)
	return cfg, store, done, err
}

// readState opens the state for reading. Where nothing was ever remembered it
// opens an empty one that is gone when closed, so that looking creates
// nothing.
func readState(ctx context.Context, dir string) (store *state.Store, done func(), err error) {
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
