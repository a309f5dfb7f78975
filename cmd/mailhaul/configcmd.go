package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/fetch"
)

func configCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:         "config",
		Usage:        "check the configuration, or show it in full",
		UsageText:    "mailhaul config check\nmailhaul config show [ACCOUNT]",
		OnUsageError: badFlag,
		Subcommands: []*cli.Command{
			{
				Name:  "check",
				Usage: "name every mistake in the configuration, without connecting anywhere",
				Description: "It also names accounts that share a maildrop, which may be intended. mailhaul check\n" +
					"also tries what the configuration names. Exit codes: 0 no mistake; 78 at least one.",
				Flags:        []cli.Flag{configFlag()},
				OnUsageError: badFlag,
				Before:       noArgs,
				Action:       func(c *cli.Context) error { return runConfigCheck(c, std) },
			}, {
				Name:      "show",
				Usage:     "show the configuration with all defaults and without secrets",
				ArgsUsage: "[ACCOUNT]",
				Description: "What it shows means the same as the file: aliases, merges and defaults are written\n" +
					"out, paths are absolute, and secrets are ***. With ACCOUNT it shows only that\n" +
					"account and the sinks it delivers to. Commands are shown unchanged: keep secrets out\n" +
					"of them.",
				Flags:        []cli.Flag{configFlag(), toggle("json", "as JSON")},
				OnUsageError: badFlag,
				Action:       func(c *cli.Context) error { return runConfigShow(c, std) },
			},
			hiddenHelpCommand(std),
		},
		Action: requireSubcommand,
	}
}

// runConfigCheck also builds the sinks, which find mistakes that config.Load cannot.
func runConfigCheck(c *cli.Context, std stdio) error {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	w, err := wire(cfg)
	if err != nil {
		return err
	}
	defer w.Close()
	fmt.Fprintf(std.out, "%s: ok, %s, %s\n", cfg.Path, count(len(cfg.Accounts), "account"), count(len(cfg.Sinks), "sink"))
	for _, names := range sharedMaildrops(w.accounts(cfg.Accounts)) {
		accounts, each := listNames(names), "each"
		if len(names) == 2 {
			accounts, each = names[0]+" and "+names[1], "both"
		}
		fmt.Fprintf(std.out, "  %s have one server and user: what is in that maildrop comes by %s\n", accounts, each)
	}
	return nil
}

// sharedMaildrops returns groups of accounts with the same maildrop, by their names. That
// may be intended, but in a list of thousands it usually is a slip.
func sharedMaildrops(accounts []*fetch.Account) (groups [][]string) {
	index := map[string]int{} // into groups, by maildrop
	for _, a := range accounts {
		maildrop := fmt.Sprintf("%q %q %q", a.User, strings.ToLower(a.Server.Addr()), a.Server.Via.Tunnel)
		i, ok := index[maildrop]
		if !ok {
			i = len(groups)
			index[maildrop] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], a.Name)
	}
	return slices.DeleteFunc(groups, func(names []string) bool { return len(names) == 1 })
}

func runConfigShow(c *cli.Context, std stdio) error {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	if c.NArg() > 1 {
		return usagef("leave them out to see all", "mailhaul config show takes one account")
	}
	if _, err := chooseAccounts(cfg, c.Args().Slice()); err != nil {
		return err
	}
	account := c.Args().First() // empty for all
	if c.Bool("json") {
		return writeJSON(std.out, json.RawMessage(cfg.JSON(account)))
	}
	text, err := cfg.YAML(account)
	if err != nil {
		return err
	}
	_, err = std.out.Write(text)
	return err
}
