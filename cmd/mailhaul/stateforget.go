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

func stateForgetCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "forget",
		Usage:     "forget an account, or single messages, so that they are fetched again",
		ArgsUsage: "ACCOUNT [UID…]",
		Description: "What is still on the server is new to the next fetch, and is delivered again. UID is\n" +
			"as for mailhaul explain.",
		Flags:        []cli.Flag{configFlag(), yesFlag()},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runStateForget(c, std) },
	}
}

// runStateForget forgets the messages that the arguments name, or the whole account.
func runStateForget(c *cli.Context, std stdio) error {
	if !c.Args().Present() {
		return usagef("mailhaul state forget work", "mailhaul state forget takes an account")
	}
	ctx, name, uids := c.Context, c.Args().First(), c.Args().Tail()
	cfg, store, done, err := leaseAccount(ctx, c.String("config"), name)
	if err != nil {
		return err
	}
	defer done()
	if len(uids) > 0 {
		return forgetMessages(ctx, std, store, name, uids, c.Bool("yes"))
	}
	return forgetAccount(ctx, std, cfg, store, name, c.Bool("yes"))
}

// forgetAccount forgets an account, whose lease the caller holds, after asking.
func forgetAccount(ctx context.Context, std stdio, cfg *config.Config, store *state.Store, name string, yes bool) error {
	w, err := wire(cfg)
	if err != nil {
		return err
	}
	defer w.Close()
	a, err := rememberedAccount(ctx, cfg, store, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s remembered. When last asked, the server had %d of them:\n"+
		"what is still there is fetched again, and delivered a second time.\n", name, count(a.Messages, "message"), a.Listed)
	if err := std.confirm("Forget the account "+name+"?", yes); err != nil {
		return err
	}
	if err := store.Forget(ctx, name); err != nil {
		return err
	}
	err = w.sweepAccount(ctx, name)
	fmt.Fprintf(std.out, "%s: forgotten\n", name)
	warnSweepFailed(std, err)
	return nil
}

// sweepAccount removes the unfinished deliveries of an account that was forgotten or
// renamed, whose polls no longer do it.
func (w *wiring) sweepAccount(ctx context.Context, account string) error {
	// The first sweep, for no account, lets each mbox complete from the spool what a
	// crash has torn. Only then may anything be removed from the spool.
	for _, name := range []string{"", account} {
		var err error
		for _, sink := range w.sinks {
			err = errors.Join(err, sink.Sweep(ctx, name))
		}
		if err != nil {
			return err
		}
	}
	return w.spool.Sweep(account)
}

// warnSweepFailed warns of an error of sweepAccount, unless it is nil.
func warnSweepFailed(std stdio, err error) {
	if err != nil {
		fmt.Fprintf(std.err, "mailhaul: warning: mail that was left on its way may stay on this disk: %v\n", err)
	}
}

// forgetMessages forgets the messages that uids name, after asking. The caller holds the
// lease of the account.
func forgetMessages(ctx context.Context, std stdio, store *state.Store, name string, uids []string, yes bool) error {
	rows, err := findMessages(ctx, store, name, uids)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: if they are still on the server, these are fetched again, and delivered a second time:\n", name)
	var forget []string
	for _, r := range rows {
		fmt.Fprintf(std.out, "  %s (%s), %v\n", displayUID(r.UID), size(r.Size), r.Phase)
		forget = append(forget, r.UID)
	}
	if err := std.confirm("Forget "+count(len(rows), "message")+"?", yes); err != nil {
		return err
	}
	h := state.Housekeeping{Forget: forget}
	if slices.ContainsFunc(rows, func(r state.Row) bool { return r.Deleted != 0 || r.Missing != 0 }) {
		// Such a row, listed again, would have shown that the server reuses unique-ids.
		// Without it, any message may be another one: marked as missing, each that is
		// listed again is compared before it is deleted.
		all, err := store.Rows(ctx, name)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Phase != state.Deleted {
				h.Missing = append(h.Missing, r.UID)
			}
		}
	}
	if err := store.Keep(ctx, name, time.Now().Unix(), h); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s forgotten\n", name, count(len(rows), "message"))
	return nil
}
