package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/statefile"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func exportCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write what is remembered as lines of JSON, for mailhaul state import",
		ArgsUsage: "[ACCOUNT…]",
		Description: "All accounts, or those named, are written to standard output, without passwords and\n" +
			"without the mail itself.",
		Flags:        []cli.Flag{configFlag()},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return runExport(c.Context, std, c.String("config"), c.Args().Slice())
		},
	}
}

// runExport writes what is remembered of accounts. It reads each account in one
// transaction, since a poll may be under way.
func runExport(ctx context.Context, std stdio, path string, names []string) error {
	cfg, store, done, err := loadConfigAndState(ctx, path)
	if err != nil {
		return err
	}
	defer done()
	for _, name := range names {
		if _, err := rememberedAccount(ctx, cfg, store, name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		all, err := store.Accounts(ctx)
		if err != nil {
			return err
		}
		for _, a := range all {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	w := statefile.NewWriter(std.out)
	for _, name := range slices.Compact(names) {
		m, err := store.Recall(ctx, name)
		if err != nil {
			return err
		}
		if err := w.Write(m); err != nil {
			return incompleteOutput(err) // also for a closed pipe: half an export is useless
		}
	}
	if err := w.Close(); err != nil {
		return incompleteOutput(err)
	}
	return nil
}

func importCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "remember what mailhaul state export wrote",
		ArgsUsage: "FILE",
		Description: "Messages that were delivered elsewhere count as delivered: once keep has passed they\n" +
			"are deleted from the server. So move the mail, too. Messages that were on their way\n" +
			"into a sink are fetched again. With --merge, what is remembered here already stays\n" +
			"as it is, and the rest is added.",
		Flags: []cli.Flag{
			configFlag(),
			toggle("merge", "add to accounts of which messages are already remembered"),
			yesFlag(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("mailhaul state import FILE", "mailhaul state import takes one file")
			}
			return runImport(c.Context, std, c.String("config"), c.Args().First(), c.Bool("merge"), c.Bool("yes"))
		},
	}
}

func runImport(ctx context.Context, std stdio, path, file string, merge, yes bool) error {
	cfg, err := loadConfig(path)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return usagef("", "%v", err)
	}
	defer f.Close()
	memories, err := statefile.Read(f)
	if err != nil {
		return usagef("nothing was imported", "%s: %v", file, err)
	}
	store, err := state.Open(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer store.Close()
	slices.SortFunc(memories, func(a, b state.Memory) int { return strings.Compare(a.Account, b.Account) })
	for _, m := range memories {
		lease, err := store.Lease(ctx, m.Account)
		if err != nil {
			return err
		}
		defer lease.Release()
	}
	all, err := store.Accounts(ctx)
	if err != nil {
		return err
	}
	here := map[string]int{}
	for _, a := range all {
		here[a.Name] = a.Messages
	}
	for _, m := range memories {
		name := clean(m.Account) // the file may be somebody else's
		if n := here[m.Account]; n > 0 && !merge {
			return usagef("add --merge to keep them and add to them", "%s: %s remembered here already", name, count(n, "message"))
		}
		fmt.Fprintf(std.out, "%s: %s to import, %d remembered here\n", name, count(len(m.Messages), "message"), here[m.Account])
		if cfg.Account(m.Account) == nil {
			fmt.Fprintln(std.out, "  the configuration does not have this account")
		}
	}
	if err := std.confirm("Import "+count(len(memories), "account")+"?", yes); err != nil {
		return err
	}
	added, err := store.Relearn(ctx, memories)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s added\n", count(added, "message"))
	return nil
}
