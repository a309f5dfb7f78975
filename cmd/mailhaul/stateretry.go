package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateRetryCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "let the next fetch try refused messages again, without the pause",
		UsageText: "mailhaul state retry ACCOUNT…\nmailhaul state retry ACCOUNT UID…\nmailhaul state retry --all",
		ArgsUsage: "[ACCOUNT…] [UID…]",
		Description: "Use it once the cause is gone. Nothing is forgotten: of several sinks, only those\n" +
			"that do not have the message are tried. Without UIDs it applies to all refused\n" +
			"messages of the accounts; UIDs are as for mailhaul explain, and follow a single\n" +
			"account.",
		Flags:        []cli.Flag{configFlag(), toggle("all", "try the refused messages of all accounts")},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runStateRetry(c, std) },
	}
}

// runStateRetry ends the pauses of the accounts or messages that the arguments name, or
// of all accounts.
func runStateRetry(c *cli.Context, std stdio) error {
	const hint = "mailhaul state retry work, or --all"
	ctx, args := c.Context, c.Args().Slice()
	switch all := c.Bool("all"); {
	case !all && len(args) == 0:
		return usagef(hint, "mailhaul state retry takes an account")
	case all && len(args) > 0:
		return usagef(hint, "--all takes no accounts, but was given %q", args[0])
	}
	cfg, store, err := loadConfigAndState(ctx, c.String("config"))
	if err != nil {
		return err
	}
	defer store.Close()
	names, uids, err := accountsToRetry(ctx, cfg, store, args)
	if err != nil {
		return err
	}
	messages, accounts := 0, 0
	var busy []string
	for _, name := range names {
		n, err := endPauses(ctx, store, name, uids)
		_, held := errors.AsType[*state.HeldError](err)
		switch {
		case held && len(names) > 1:
			busy = append(busy, name)
		case err != nil:
			return err
		case n > 0:
			fmt.Fprintf(std.out, "%s: the next fetch tries %s\n", name, count(n, "refused message"))
			messages += n
			accounts++
		case len(args) > 0:
			fmt.Fprintf(std.out, "%s: no message waits for another try\n", name)
		}
	}
	switch {
	case accounts > 1:
		fmt.Fprintf(std.out, "%s, %s\n", count(accounts, "account"), count(messages, "refused message"))
	case accounts == 0 && len(args) == 0 && len(busy) == 0:
		fmt.Fprintln(std.out, "no message waits for another try")
	}
	if len(busy) > 0 {
		return &failure{fmt.Errorf("being polled already, and left alone: %s", listNames(busy)), exitRetry, "try again when that has ended"}
	}
	return nil
}

// accountsToRetry returns the accounts that args name, or the one account and the
// unique-ids of its messages. Without args it returns the accounts that may have refused
// messages: the others must not be reported as busy.
func accountsToRetry(ctx context.Context, cfg *config.Config, store *state.Store, args []string) (names, uids []string, err error) {
	all, err := store.Accounts(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(args) == 0 {
		for _, a := range all {
			if a.Refused > 0 || a.Open > 0 {
				names = append(names, a.Name)
			}
		}
		return names, nil, nil
	}
	known := map[string]bool{}
	for _, a := range all {
		known[a.Name] = true
	}
	if slices.ContainsFunc(args, func(arg string) bool { return !known[arg] && cfg.Account(arg) == nil }) {
		args, uids = args[:1], args[1:]
	}
	for _, name := range args {
		if !known[name] {
			_, err := rememberedAccount(ctx, cfg, store, name)
			return nil, nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, uids, nil
}

// endPauses ends the pauses of messages of an account, of all its messages if there are no
// uids, and returns how many pauses it ended.
func endPauses(ctx context.Context, store *state.Store, name string, uids []string) (int, error) {
	lease, err := store.Lease(ctx, name)
	if err != nil {
		return 0, err
	}
	defer lease.Release()
	rows, err := findMessages(ctx, store, name, uids)
	if err != nil {
		return 0, err
	}
	now := time.Now().Unix()
	var keys []string
	for _, r := range rows {
		refused := r.NextTry > 0 && (r.Phase == state.Refused || r.Phase == state.Promised && r.Tries > 0)
		comparisonWaits := wasToBeCompared(r) && r.Tries > 0 && r.NextTry > now
		if !refused && !comparisonWaits {
			return 0, usagef("", "%s: message %s is not waiting for another try", name, displayUID(r.UID))
		}
		keys = append(keys, r.UID)
	}
	n, err := store.Retry(ctx, name, now, keys)
	return int(n), err
}
