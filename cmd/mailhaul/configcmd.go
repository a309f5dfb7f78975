package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
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
				Action: func(c *cli.Context) error {
					if err := noArgs(c); err != nil {
						return err
					}
					return runConfigCheck(std, c.String("config"))
				},
			}, {
				Name:      "show",
				Usage:     "show the configuration with all defaults and without secrets",
				ArgsUsage: "[ACCOUNT]",
				Description: "What it shows means the same as the file: aliases, merges and defaults are written\n" +
					"out, paths are absolute, and secrets are ***. With ACCOUNT it shows only that\n" +
					"account and the sinks it delivers to. Commands are shown unchanged: keep secrets out\n" +
					"of them.",
				Flags: []cli.Flag{
					configFlag(),
					toggle("json", "as JSON"),
				},
				OnUsageError: badFlag,
				Action: func(c *cli.Context) error {
					return runConfigShow(std, c.String("config"), c.Bool("json"), c.Args().Slice())
				},
			},
			hiddenHelpCommand(std),
		},
		Action: requireSubcommand,
	}
}

// runConfigCheck also builds the sinks, which find mistakes that config.Load cannot.
func runConfigCheck(std stdio, path string) error {
	cfg, err := loadConfig(path)
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
		accounts, each := someOf(names), "each"
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

func runConfigShow(std stdio, path string, asJSON bool, names []string) error {
	cfg, err := loadConfig(path)
	if err != nil {
		return err
	}
	account := ""
	switch len(names) {
	case 0:
	case 1:
		if _, err := choose(cfg, names); err != nil {
			return err
		}
		account = names[0]
	default:
		return usagef("leave them out to see all", "mailhaul config show takes one account")
	}
	text, err := renderConfig(cfg, account, asJSON)
	if err != nil {
		return err
	}
	_, err = std.out.Write(text)
	return err
}

// renderConfig returns the configuration as YAML or JSON. Unless account is empty, that
// is the account and its sinks alone.
func renderConfig(cfg *config.Config, account string, asJSON bool) ([]byte, error) {
	if !asJSON {
		return cfg.YAML(account)
	}
	var out bytes.Buffer
	err := json.Indent(&out, cfg.JSON(account), "", "  ")
	out.WriteByte('\n')
	return out.Bytes(), err
}
