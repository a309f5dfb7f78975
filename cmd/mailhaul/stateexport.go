package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/statefile"
)

func stateExportCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write what is remembered as lines of JSON, for mailhaul state import",
		ArgsUsage: "[ACCOUNT…]",
		Description: "All accounts, or those named, are written to standard output, without passwords and\n" +
			"without the mail itself.",
		Flags:        []cli.Flag{configFlag()},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runStateExport(c, std) },
	}
}

// runStateExport writes what is remembered of accounts. It reads each account in one
// transaction, since a poll may be under way.
func runStateExport(c *cli.Context, std stdio) error {
	ctx, names := c.Context, c.Args().Slice()
	cfg, store, done, err := loadConfigAndStateReadOnly(ctx, c.String("config"))
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
		m, err := store.Export(ctx, name)
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
