package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// listOrders are the orders of --sort, by name.
var listOrders = map[string]func(a, b listedMessage) int{
	"number": func(a, b listedMessage) int { return 0 },
	"date":   func(a, b listedMessage) int { return a.date.Compare(b.date) },
	"size":   func(a, b listedMessage) int { return cmp.Compare(a.Size, b.Size) },
	"from":   func(a, b listedMessage) int { return cmp.Compare(strings.ToLower(a.from), strings.ToLower(b.from)) },
	"subject": func(a, b listedMessage) int {
		return cmp.Compare(strings.ToLower(a.subject), strings.ToLower(b.subject))
	},
	"state": func(a, b listedMessage) int { return cmp.Compare(a.Fate, b.Fate) },
}

const listOrderNames = "number, date, size, from, subject, state"

func listCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "show the messages on a server, and what is known of them",
		ArgsUsage: "ACCOUNT",
		Description: "It changes nothing. Headers are read with TOP, which some servers count as reading a\n" +
			"message; --no-headers avoids that. mailhaul explain, mailhaul state retry and\n" +
			"mailhaul state forget take a unique-id, or a beginning of it.\n\n" +
			"The exit codes are those of mailhaul fetch, except that messages refused earlier are\n" +
			"no failure here.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "sort", Value: "number", Usage: "sort by `KEY`: " + listOrderNames},
			toggle("uids", "show the unique-ids, too"),
			toggle("no-headers", "do not ask for date, sender and subject"),
			jsonFlag(),
		},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runList(c, std) },
	}
}

// listedMessage is a message on the server. With --no-headers its header is empty.
type listedMessage struct {
	fetch.Prospect
	messageHeader
}

// runList lists the messages on the server of one account.
func runList(c *cli.Context, std stdio) error {
	noHeaders, asJSON := c.Bool("no-headers"), c.Bool("json")
	order := listOrders[c.String("sort")]
	if order == nil {
		return usagef("write one of "+listOrderNames, "--sort %q is not known", c.String("sort"))
	}
	if c.NArg() != 1 {
		return usagef("mailhaul list work", "name the account to list")
	}
	cfg, chosen, w, err := loadAndWire(c.String("config"), c.Args().Slice())
	if err != nil {
		return err
	}
	defer w.Close()
	store, done, err := openStateReadOnly(c.Context, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := cancelOnSignal(c.Context, std, w)
	defer stop()

	headers := map[int]messageHeader{} // by the number of the message
	readHeader := func(num int, r io.Reader) { headers[num] = readMessageHeader(r) }
	if noHeaders {
		readHeader = nil
	}
	account := chosen[0]
	now := time.Now()
	sight, err := w.account(account).Look(ctx, fetch.Options{State: store}, readHeader)
	if err != nil && !asJSON {
		return reportLookFailure(std, account.Name, err)
	}
	var messages []listedMessage
	for _, p := range sight.Messages {
		messages = append(messages, listedMessage{p, headers[p.Num]})
	}
	slices.SortStableFunc(messages, order)
	if asJSON {
		if err := writeListingJSON(std.out, account, messages, err, now); err != nil {
			return err
		}
		return worstOutcome(fetch.Classify(err))
	}
	if sight.NoHeader != nil {
		fmt.Fprintf(std.err, "%s: the server gives no headers: %v\n", account.Name, sight.NoHeader)
	}
	showHeaders := sight.NoHeader == nil && !noHeaders
	writeListing(std.out, account, messages, showHeaders, c.Bool("uids") || !showHeaders, lineWidth(std.out), now)
	return nil
}

// reportLookFailure reports why an account could not be listed, and returns the outcome.
func reportLookFailure(std stdio, account string, err error) error {
	paint := painter(isTerminal(std.err))
	fmt.Fprintf(std.err, "%s: %s: %s\n", account, paint(red, "FAILED"), clean(err.Error()))
	if hint := fetch.Hint(err); hint != "" {
		fmt.Fprintf(std.err, "  hint: %s\n", hint)
	}
	return &outcome{fetch.Classify(err)}
}

// writeListing writes a table that is at most width columns wide, and a line with the sum.
func writeListing(out io.Writer, a config.Account, messages []listedMessage, headers, uids bool, width int, now time.Time) {
	if len(messages) == 0 {
		fmt.Fprintln(out, "no messages")
		return
	}
	var octets int64
	rows, colours := make([][]string, len(messages)), make([]string, len(messages))
	for i, m := range messages {
		octets += m.Size
		colours[i] = stateColours[m.Fate]
		rows[i] = listingRow(m, headers, uids)
	}
	writeTable(out, listingColumns(rows, colours, headers, uids, width), rows, func(row int) string {
		if p := messages[row].Prospect; p.Fate == fetch.FateWait {
			return "  " + fateReason(p, a, now)
		}
		return ""
	})
	fmt.Fprintf(out, "%s, %s\n", count(len(messages), "message"), size(octets))
}

// listingRow returns the cells of a message.
func listingRow(m listedMessage, headers, uids bool) []string {
	row := []string{strconv.Itoa(m.Num), size(m.Size), fateStatus(m.Prospect)}
	if uids {
		row = append(row, prospectName(m.Prospect))
	}
	if headers {
		date := ""
		if !m.date.IsZero() {
			date = m.date.Local().Format(time.DateOnly)
		}
		row = append(row, date, m.from, m.subject)
	}
	return row
}

// listingColumns returns the columns of a listing. Those at the right share the width
// that the others leave.
func listingColumns(rows [][]string, colours []string, headers, uids bool, width int) []column {
	numbers, states, names := len("NO"), len("STATE"), len("UNIQUE-ID")
	for _, row := range rows {
		numbers, states = max(numbers, len(row[0])), max(states, runewidth.StringWidth(row[2]))
		if uids {
			names = max(names, runewidth.StringWidth(row[3]))
		}
	}
	left := remainingWidth(width, numbers, len("1023 B"), states)
	columns := []column{{title: "NO", right: true}, {title: "SIZE", right: true}, {title: "STATE", colours: colours}}
	if uids {
		most := max(1, left)
		if headers {
			most = min(names, maxUIDWidth)
			left = remainingWidth(left, most)
		}
		columns = append(columns, column{title: "UNIQUE-ID", maxWidth: most})
	}
	if headers {
		left = remainingWidth(left, len(time.DateOnly))
		from := max(1, min(24, left/3))
		columns = append(columns, column{title: "DATE"}, column{title: "FROM", maxWidth: from}, column{title: "SUBJECT", maxWidth: max(1, remainingWidth(left, from))})
	}
	return columns
}

// stateColours sets off the states that a person may want to look into.
var stateColours = map[fetch.Fate]string{
	fetch.FateFetch: green, fetch.FateWait: red, fetch.FateLeave: yellow, fetch.FateSettle: yellow, fetch.FateNone: yellow,
}
