package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/statefile"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateImportCommand(std stdio) *cli.Command {
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
		Action:       func(c *cli.Context) error { return runStateImport(c, std) },
	}
}

func runStateImport(c *cli.Context, std stdio) error {
	if c.NArg() != 1 {
		return usagef("mailhaul state import FILE", "mailhaul state import takes one file")
	}
	ctx := c.Context
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	exports, err := readStateFile(c.Args().First())
	if err != nil {
		return err
	}
	store, err := state.Open(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, m := range exports {
		lease, err := store.Lease(ctx, m.Account)
		if err != nil {
			return err
		}
		defer lease.Release()
	}
	if err := announceImport(ctx, std.out, cfg, store, exports, c.Bool("merge")); err != nil {
		return err
	}
	if err := std.confirm("Import "+count(len(exports), "account")+"?", c.Bool("yes")); err != nil {
		return err
	}
	added, err := store.Import(ctx, exports)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s added\n", count(added, "message"))
	return nil
}

// readStateFile reads what mailhaul state export wrote. It sorts the accounts by their
// names, the fixed order in which their leases are taken.
func readStateFile(path string) ([]state.Export, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("", "%v", err)
	}
	defer f.Close()
	exports, err := statefile.Read(f)
	if err != nil {
		return nil, usagef("nothing was imported", "%s: %v", path, err)
	}
	slices.SortFunc(exports, func(a, b state.Export) int { return strings.Compare(a.Account, b.Account) })
	return exports, nil
}

// announceImport writes how many messages of each account are to be imported, and how
// many are remembered already. Unless merge is set, the latter are a usage error.
func announceImport(ctx context.Context, out io.Writer, cfg *config.Config, store *state.Store, exports []state.Export, merge bool) error {
	accounts, err := store.Accounts(ctx)
	if err != nil {
		return err
	}
	remembered := map[string]int{} // messages, by account
	for _, a := range accounts {
		remembered[a.Name] = a.Messages
	}
	for _, m := range exports {
		name, here := clean(m.Account), remembered[m.Account] // the file may be somebody else's
		if here > 0 && !merge {
			return usagef("add --merge to keep them and add to them", "%s: %s remembered here already", name, count(here, "message"))
		}
		fmt.Fprintf(out, "%s: %s to import, %d remembered here\n", name, count(len(m.Messages), "message"), here)
		if cfg.Account(m.Account) == nil {
			fmt.Fprintln(out, "  the configuration does not have this account")
		}
	}
	return nil
}
