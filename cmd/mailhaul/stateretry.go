package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func retryCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "have the next fetch try messages that were refused, without the pause",
		ArgsUsage: "ACCOUNT [UID…]",
		Description: "Use it once what stood in their way is mended. Nothing is forgotten: of several sinks,\n" +
			"only those are tried that do not have the message. Without UIDs it is all messages\n" +
			"that were refused; UID is as for mailhaul explain.",
		Flags:        []cli.Flag{configFlag()},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("mailhaul state retry work", "mailhaul state retry takes an account")
			}
			return runRetry(c.Context, std, c.String("config"), c.Args().First(), c.Args().Tail())
		},
	}
}

func runRetry(ctx context.Context, std stdio, path, name string, uids []string) error {
	_, store, done, err := hold(ctx, path, name)
	if err != nil {
		return err
	}
	defer done()
	rows, err := findMessages(ctx, store, name, uids)
	if err != nil {
		return err
	}
	var keys []string
	for _, r := range rows {
		if r.NextTry == 0 || r.Phase != state.Refused && (r.Phase != state.Promised || r.Tries == 0) {
			return usagef("", "%s: message %s is not waiting for another try", name, shownUID(r.UID))
		}
		keys = append(keys, r.UID)
	}
	n, err := store.Retry(ctx, name, time.Now().Unix(), keys)
	switch {
	case err != nil:
		return err
	case n == 0:
		fmt.Fprintf(std.out, "%s: no message waits for another try\n", name)
	default:
		fmt.Fprintf(std.out, "%s: the next fetch tries %s\n", name, count(int(n), "refused message"))
	}
	return nil
}
