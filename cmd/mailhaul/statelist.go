package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateListCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:         "list",
		Usage:        "list the accounts that are remembered, and how much of each",
		Flags:        []cli.Flag{configFlag(), jsonFlag()},
		OnUsageError: badFlag,
		Before:       noArgs,
		Action:       func(c *cli.Context) error { return runStateList(c, std) },
	}
}

func runStateList(c *cli.Context, std stdio) error {
	ctx := c.Context
	cfg, store, done, err := loadConfigAndStateReadOnly(ctx, c.String("config"))
	if err != nil {
		return err
	}
	defer done()
	all, err := store.Accounts(ctx)
	if err != nil {
		return err
	}
	octets, err := store.Octets(ctx)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeAccountsJSON(std.out, all, cfg, octets)
	}
	if len(all) == 0 {
		fmt.Fprintf(std.out, "nothing is remembered in %s\n", tilde(cfg.State))
		return nil
	}
	writeAccountTable(std.out, all, time.Now())
	fmt.Fprintf(std.out, "\n%s: %s\n", tilde(cfg.State), size(octets))
	writeUnconfigured(std.out, cfg, all)
	return nil
}

// writeAccountTable writes a table of accounts for a terminal of 80 columns.
func writeAccountTable(out io.Writer, all []state.Account, now time.Time) {
	columns := []column{
		{title: "ACCOUNT"}, {title: "LAST POLL"}, {title: "REMEMBERED", right: true}, {title: "ON SERVER", right: true},
		{title: "ADOPTED", right: true}, {title: "REFUSED", right: true},
	}
	var rows [][]string
	for _, a := range all {
		rows = append(rows, []string{
			collapseBlanks(a.Name), ago(a.Polled, now), fmt.Sprint(a.Messages), fmt.Sprint(a.Listed), fmt.Sprint(a.Adopted), fmt.Sprint(a.Refused),
		})
	}
	columns[0].maxWidth = max(8, remainingWidth(80, columnWidths(columns, rows)[1:]...))
	writeTable(out, columns, rows, nil)
}

// writeUnconfigured names the accounts in the state database that the configuration does
// not have. One of them may have been renamed there, and would be fetched again.
func writeUnconfigured(out io.Writer, cfg *config.Config, all []state.Account) {
	var names []string
	for _, a := range all {
		if cfg.Account(a.Name) == nil && a.Messages > 0 {
			names = append(names, collapseBlanks(a.Name))
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(out, "\nremembered, but not in the configuration: %s\n  (mailhaul state rename or forget tidies up)\n", listNames(names))
	}
}

// accountJSON is what state list --json writes for an account.
type accountJSON struct {
	Account    string     `json:"account"`
	Configured bool       `json:"configured"` // whether the configuration has it
	LastPoll   *time.Time `json:"last_poll"`
	Messages   int        `json:"messages"` // that are remembered
	Octets     int64      `json:"bytes"`    // of those messages
	OnServer   int        `json:"on_server"`
	Adopted    int        `json:"adopted"`
	Refused    int        `json:"refused"`
	Open       int        `json:"open"` // promised, and not known to have landed
}

func writeAccountsJSON(out io.Writer, all []state.Account, cfg *config.Config, octets int64) error {
	accounts := make([]accountJSON, len(all))
	for i, a := range all {
		accounts[i] = accountJSON{
			Account: a.Name, Configured: cfg.Account(a.Name) != nil,
			LastPoll: jsonTime(a.Polled), Messages: a.Messages, Octets: a.Octets, OnServer: a.Listed,
			Adopted: a.Adopted, Refused: a.Refused, Open: a.Open,
		}
	}
	return writeJSON(out, map[string]any{"state": cfg.State, "bytes": octets, "accounts": accounts})
}
