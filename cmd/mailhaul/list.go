package main

import (
	"cmp"
	"context"
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

// listOptions are the options of mailhaul list.
type listOptions struct {
	configPath string
	names      []string
	sort       string
	noHeaders  bool
	uids       bool
	json       bool
}

// listOrders are what a listing can be sorted by.
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
		Action: func(c *cli.Context) error {
			return runList(c.Context, std, listOptions{
				configPath: c.String("config"), names: c.Args().Slice(), sort: c.String("sort"),
				noHeaders: c.Bool("no-headers"), uids: c.Bool("uids"), json: c.Bool("json"),
			})
		},
	}
}

// listedMessage is a message on the server. Without headers there is no heading.
type listedMessage struct {
	fetch.Prospect
	messageHeader
}

// runList looks at one account and writes what it sees.
func runList(ctx context.Context, std stdio, o listOptions) error {
	order := listOrders[o.sort]
	if order == nil {
		return usagef("write one of "+listOrderNames, "--sort %q is not known", o.sort)
	}
	if len(o.names) != 1 {
		return usagef("mailhaul list work", "name the account to list")
	}
	cfg, chosen, w, err := wired(o.configPath, o.names)
	if err != nil {
		return err
	}
	defer w.Close()
	store, done, err := readState(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := interruptible(ctx, std, w)
	defer stop()

	headings := map[int]messageHeader{}
	read := func(num int, r io.Reader) { headings[num] = readMessageHeader(r) }
	if o.noHeaders {
		read = nil
	}
	account := chosen[0]
	now := time.Now()
	sight, err := w.account(account).Look(ctx, fetch.Options{State: store}, read)
	if err != nil && !o.json {
		return reportLookFailure(std, account.Name, err)
	}
	var messages []listedMessage
	for _, p := range sight.Messages {
		messages = append(messages, listedMessage{p, headings[p.Num]})
	}
	slices.SortStableFunc(messages, order)
	if o.json {
		if err := writeListingJSON(std.out, account, messages, err, now); err != nil {
			return err
		}
		return worstOutcome(fetch.Classify(err))
	}
	if sight.NoHeader != nil {
		fmt.Fprintf(std.err, "%s: the server gives no headers: %v\n", account.Name, sight.NoHeader)
	}
	headers := sight.NoHeader == nil && !o.noHeaders
	writeListing(std.out, account, messages, headers, o.uids || !headers, columnsOf(std.out), now)
	return nil
}

// reportLookFailure says why an account could not be looked at.
func reportLookFailure(std stdio, account string, err error) error {
	paint := painter(isTerminal(std.err))
	fmt.Fprintf(std.err, "%s: %s: %s\n", account, paint(red, "FAILED"), clean(err.Error()))
	if hint := fetch.Hint(err); hint != "" {
		fmt.Fprintf(std.err, "  hint: %s\n", hint)
	}
	return &outcome{fetch.Classify(err)}
}

// writeListing writes a table that is no wider than so many columns, and a sum.
func writeListing(out io.Writer, a config.Account, messages []listedMessage, headers, uids bool, columns int, now time.Time) {
	if len(messages) == 0 {
		fmt.Fprintln(out, "no messages")
		return
	}
	var octets int64
	rows, colours := make([][]string, len(messages)), make([]string, len(messages))
	numbers, standings, names := len("NO"), len("STATE"), len("UNIQUE-ID")
	for i, m := range messages {
		octets += m.Size
		date := ""
		if !m.date.IsZero() {
			date = m.date.Local().Format(time.DateOnly)
		}
		rows[i] = []string{strconv.Itoa(m.Num), size(m.Size), standing(m.Prospect)}
		colours[i] = stateColours[m.Fate]
		numbers, standings = max(numbers, len(rows[i][0])), max(standings, runewidth.StringWidth(rows[i][2]))
		if uids {
			name := called(m.Prospect)
			rows[i] = append(rows[i], name)
			names = max(names, runewidth.StringWidth(name))
		}
		if headers {
			rows[i] = append(rows[i], date, m.from, m.subject)
		}
	}
	left := rest(columns, numbers, len("1023 B"), standings)
	table := []column{{title: "NO", right: true}, {title: "SIZE", right: true}, {title: "STATE", colours: colours}}
	if uids {
		most := max(1, left)
		if headers {
			most = min(names, mostUID)
			left = rest(left, most)
		}
		table = append(table, column{title: "UNIQUE-ID", most: most})
	}
	if headers {
		left = rest(left, len(time.DateOnly))
		from := max(1, min(24, left/3))
		table = append(table, column{title: "DATE"}, column{title: "FROM", most: from}, column{title: "SUBJECT", most: max(1, rest(left, from))})
	}
	writeTable(out, table, rows, func(row int) string {
		if p := messages[row].Prospect; p.Fate == fetch.FateWait {
			return "  " + because(p, a, now)
		}
		return ""
	})
	fmt.Fprintf(out, "%s, %s\n", count(len(messages), "message"), size(octets))
}

// stateColours is that of what a person may want to look into.
var stateColours = map[fetch.Fate]string{
	fetch.FateFetch: green, fetch.FateWait: red, fetch.FateLeave: yellow, fetch.FateSettle: yellow, fetch.FateNone: yellow,
}
