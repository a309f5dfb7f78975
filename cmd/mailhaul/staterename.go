package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateRenameCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "rename",
		Usage:     "keep what is remembered of an account that was renamed in the configuration",
		ArgsUsage: "OLD NEW",
		Flags:     []cli.Flag{configFlag(), yesFlag()},
		Description: "Without this, an account with a new name is a new account, and all mail that is\n" +
			"still on its server is fetched again.",
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runStateRename(c, std) },
	}
}

func runStateRename(c *cli.Context, std stdio) error {
	if c.NArg() != 2 {
		return usagef("mailhaul state rename work office", "mailhaul state rename takes the old name and the new one")
	}
	ctx, from, to := c.Context, c.Args().Get(0), c.Args().Get(1)
	if from == to {
		return usagef("", "both names are %q", from)
	}
	cfg, store, err := loadConfigAndState(ctx, c.String("config"))
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := chooseAccounts(cfg, []string{to}); err != nil {
		return err
	}
	if _, err := rememberedAccount(ctx, cfg, store, from); err != nil {
		return err
	}
	release, err := leaseForRename(ctx, store, from, to)
	if err != nil {
		return err
	}
	defer release()
	w, err := wire(cfg)
	if err != nil {
		return err
	}
	defer w.Close()
	account, err := checkRename(ctx, cfg, store, from, to)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s remembered, which will be those of %s\n", from, count(account.Messages, "message"), to)
	if cfg.Account(from) != nil {
		fmt.Fprintf(std.out, "%s is in the configuration still: all mail on its server will be new to it\n", from)
	}
	if err := std.confirm("Rename "+from+" to "+to+"?", c.Bool("yes")); err != nil {
		return err
	}
	for _, s := range cfg.Sinks {
		if err := smtp.Rename(w.spool, s.Name, from, to); err != nil {
			return err
		}
	}
	if err := store.Rename(ctx, from, to); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: is now %s\n", from, to)
	if account.Open == 0 {
		warnSweepFailed(std, w.sweepAccount(ctx, from))
	}
	return nil
}

// leaseForRename takes the leases of both accounts and that of the daemon: one that runs
// and knows only the old name would fetch all mail of it again.
func leaseForRename(ctx context.Context, store *state.Store, from, to string) (release func(), err error) {
	var leases []*state.Lease
	release = func() {
		for _, l := range slices.Backward(leases) {
			l.Release()
		}
	}
	daemonLease, err := store.DaemonLease()
	if err != nil {
		return nil, err
	}
	leases = append(leases, daemonLease)
	// A fixed order, so that two renames cannot block each other.
	for _, name := range []string{min(from, to), max(from, to)} {
		lease, err := store.Lease(ctx, name)
		if err != nil {
			release()
			return nil, err
		}
		leases = append(leases, lease)
	}
	return release, nil
}

// checkRename returns the account from, or an error if it cannot be renamed to to.
func checkRename(ctx context.Context, cfg *config.Config, store *state.Store, from, to string) (account state.Account, err error) {
	all, err := store.Accounts(ctx)
	if err != nil {
		return account, err
	}
	for _, a := range all {
		switch {
		case a.Name == from && a.Open > 0 && cfg.Account(from) != nil:
			// The promises would be those of to, and the next poll of from would sweep
			// away the mail that is spooled for them.
			return account, usagef("mailhaul fetch "+from+" settles them first", "%s of the account %q are on their way into a sink", count(a.Open, "message"), from)
		case a.Name == to && a.Messages > 0:
			return account, usagef("mailhaul state forget "+to+" makes room for it", "%s of the account %q are remembered already", count(a.Messages, "message"), to)
		case a.Name == from:
			account = a
		}
	}
	return account, nil
}
