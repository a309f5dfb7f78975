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

// listing is what mailhaul list shows of an account.
type listing struct {
	account     config.Account
	messages    []listedMessage
	showHeaders bool
	showUIDs    bool
	now         time.Time
}

// runList lists the messages on the server of one account.
func runList(c *cli.Context, std stdio) error {
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
	if c.Bool("no-headers") {
		readHeader = nil
	}
	l := listing{account: chosen[0], now: time.Now()}
	sight, err := w.account(l.account).Look(ctx, fetch.Options{State: store}, readHeader)
	if err != nil && !c.Bool("json") {
		return writeLookFailure(std.err, l.account.Name, err)
	}
	for _, p := range sight.Messages {
		l.messages = append(l.messages, listedMessage{p, headers[p.Num]})
	}
	slices.SortStableFunc(l.messages, order)
	if c.Bool("json") {
		if err := l.writeJSON(std.out, err); err != nil {
			return err
		}
		return worstOutcome(fetch.Classify(err))
	}
	if sight.NoHeader != nil {
		fmt.Fprintf(std.err, "%s: the server gives no headers: %v\n", l.account.Name, sight.NoHeader)
	}
	l.showHeaders = readHeader != nil && sight.NoHeader == nil
	l.showUIDs = c.Bool("uids") || !l.showHeaders
	l.write(std.out, lineWidth(std.out))
	return nil
}

// write writes a table that is at most width columns wide, and a line with the sum.
func (l *listing) write(out io.Writer, width int) {
	if len(l.messages) == 0 {
		fmt.Fprintln(out, "no messages")
		return
	}
	var octets int64
	var rows [][]string
	for _, m := range l.messages {
		octets += m.Size
		rows = append(rows, l.row(m))
	}
	writeTable(out, l.columns(rows, width), rows, func(row int) string {
		if p := l.messages[row].Prospect; p.Fate == fetch.FateWait {
			return "  " + fateReason(p, l.account, l.now)
		}
		return ""
	})
	fmt.Fprintf(out, "%s, %s\n", count(len(l.messages), "message"), size(octets))
}

// row returns the cells of a message.
func (l *listing) row(m listedMessage) []string {
	row := []string{strconv.Itoa(m.Num), size(m.Size), fateStatus(m.Prospect)}
	if l.showUIDs {
		row = append(row, prospectName(m.Prospect))
	}
	if l.showHeaders {
		date := ""
		if !m.date.IsZero() {
			date = m.date.Local().Format(time.DateOnly)
		}
		row = append(row, date, m.from, m.subject)
	}
	return row
}

// columns returns the columns for rows. Those at the right share the width that the
// others leave.
func (l *listing) columns(rows [][]string, width int) []column {
	var colours []string
	for _, m := range l.messages {
		colours = append(colours, stateColours[m.Fate])
	}
	numbers, states, names := len("NO"), len("STATE"), len("UNIQUE-ID")
	for _, row := range rows {
		numbers = max(numbers, len(row[0]))
		states = max(states, runewidth.StringWidth(row[2]))
		if l.showUIDs {
			names = max(names, runewidth.StringWidth(row[3]))
		}
	}
	left := remainingWidth(width, numbers, len("1023 B"), states)
	columns := []column{{title: "NO", right: true}, {title: "SIZE", right: true}, {title: "STATE", colours: colours}}
	if l.showUIDs {
		most := max(1, left)
		if l.showHeaders {
			most = min(names, maxUIDWidth)
			left = remainingWidth(left, most)
		}
		columns = append(columns, column{title: "UNIQUE-ID", maxWidth: most})
	}
	if l.showHeaders {
		left = remainingWidth(left, len(time.DateOnly))
		from := max(1, min(24, left/3))
		subject := max(1, remainingWidth(left, from))
		columns = append(columns, column{title: "DATE"}, column{title: "FROM", maxWidth: from}, column{title: "SUBJECT", maxWidth: subject})
	}
	return columns
}

// stateColours sets off the states that a person may want to look into.
var stateColours = map[fetch.Fate]string{
	fetch.FateFetch: green, fetch.FateWait: red, fetch.FateLeave: yellow, fetch.FateSettle: yellow, fetch.FateNone: yellow,
}

// listedJSON is what list --json writes for a message.
type listedJSON struct {
	prospectJSON
	Date    *time.Time `json:"date"`
	From    string     `json:"from"`
	Subject string     `json:"subject"`
}

// listingJSON is what list --json writes.
type listingJSON struct {
	Account  string       `json:"account"`
	Messages []listedJSON `json:"messages"`
	Error    string       `json:"error,omitempty"`
	Hint     string       `json:"hint,omitempty"`
}

// writeJSON writes the listing. failed, unless nil, is why it may be incomplete.
func (l *listing) writeJSON(out io.Writer, failed error) error {
	j := listingJSON{Account: l.account.Name, Messages: make([]listedJSON, len(l.messages))}
	for i, m := range l.messages {
		j.Messages[i] = listedJSON{prospectJSON: newProspectJSON(m.Prospect, l.account, l.now), From: m.from, Subject: m.subject}
		if !m.date.IsZero() {
			j.Messages[i].Date = new(m.date.UTC())
		}
	}
	if failed != nil {
		j.Error, j.Hint = failed.Error(), fetch.Hint(failed)
	}
	return writeJSON(out, j)
}
