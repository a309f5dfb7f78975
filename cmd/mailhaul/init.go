package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/discover"
)

func initCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a first configuration, and try it out",
		ArgsUsage: "[ADDRESS]",
		Description: "It finds the POP3 server of your mail address, asks for what it cannot find out,\n" +
			"logs in to see that everything works, and writes a configuration to start from. It\n" +
			"does not ask for what an option says. An existing configuration is never changed.\n\n" +
			"With --yes it asks no questions: it needs ADDRESS, or --server and --user, and one\n" +
			"of --password-file, --password-command and --oauth (with --client-id); the rest has\n" +
			"defaults.\n\n" +
			"Exit codes: 0 written; 64 something is missing, or a configuration exists; 74 it\n" +
			"cannot be written; 75 nobody answered, or temporary trouble; 77 no server was found,\n" +
			"or it refused the login.",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "config", Aliases: []string{"c"}, Usage: "write the configuration to `FILE`",
				DefaultText: "$MAILHAUL_CONFIG, else ~/.config/mailhaul/config.yaml",
			},
			toggle("yes", "ask no questions", "y"),
			&cli.StringFlag{Name: "name", Usage: "call the account `NAME`", DefaultText: "after the address"},
			&cli.StringFlag{Name: "server", Usage: "the POP3 server, `HOST` or HOST:PORT", DefaultText: "found from the address"},
			&cli.StringFlag{Name: "tls", Usage: "`TLS` is implicit, starttls or none", DefaultText: "implicit; starttls on port 110"},
			&cli.StringFlag{Name: "user", Usage: "log in as `USER`", DefaultText: "the address"},
			&cli.StringFlag{Name: "password-file", Usage: "the password is in the first line of `FILE`"},
			&cli.StringFlag{Name: "password-command", Usage: "the shell command `COMMAND` prints the password"},
			&cli.StringFlag{Name: "oauth", Usage: "log in by OAuth 2.0 with `PROVIDER`: " + strings.Join(config.OAuthProviders, ", ")},
			&cli.StringFlag{Name: "client-id", Usage: "the `ID` of the client that you registered with it"},
			&cli.StringFlag{Name: "client-secret-file", Usage: "its secret is in the first line of `FILE`"},
			&cli.StringFlag{Name: "maildir", Usage: "deliver to the Maildir `DIR`", DefaultText: "~/Maildir"},
			&cli.StringFlag{Name: "mbox", Usage: "deliver to the mbox `FILE`"},
			&cli.StringFlag{Name: "keep", Usage: "how long mail stays on the server: `TIME` is " + keepValues, DefaultText: defaultKeep},
			toggle("no-check", "write it without trying to log in"),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			i := initialisation{std: std, yes: c.Bool("yes"), check: !c.Bool("no-check")}
			return i.run(c)
		},
	}
}

// initialisation is a run of mailhaul init.
type initialisation struct {
	std        stdio
	yes, check bool
	checkLater bool // what is amiss is seen to later
	address    string
	setup
	given    func(flag string) bool // what was said is not asked
	ask      *prompter              // nil if nothing is asked
	provider *discover.Provider     // whose server it is; may be nil
}

func (i *initialisation) run(c *cli.Context) error {
	ctx, stop := interruptible(c.Context, i.std, nil)
	defer stop()
	if err := i.readOptions(c); err != nil {
		return err
	}
	if !i.yes {
		if i.std.in == nil || !isTerminal(i.std.in) || !isTerminal(i.std.out) {
			missing := "nothing is missing"
			if left := i.missing(); len(left) > 0 {
				missing = "missing: " + strings.Join(left, "; ")
			}
			return usagef("--yes takes the defaults and asks nothing; "+missing, "there is no terminal to ask at")
		}
		i.ask = newPrompter(ctx, i.std)
	} else if left := i.missing(); len(left) > 0 {
		return usagef("mailhaul help init lists the options", "missing: %s", strings.Join(left, "; "))
	}
	err := i.fill(ctx)
	switch {
	case errors.Is(err, errNoAnswer), ctx.Err() != nil:
		return &failure{errors.New("nothing was written"), exitRetry, ""}
	case err != nil:
		return err
	}
	if err := i.write(); err != nil {
		return &failure{err, exitMachine, ""}
	}
	i.printNextSteps()
	return nil
}

// readOptions takes what the command line says.
func (i *initialisation) readOptions(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("mailhaul init you@example.org", "mailhaul init takes one address")
	}
	i.address, i.given = c.Args().First(), c.IsSet
	path, err := newPlace(c.String("config"))
	if err != nil {
		return err
	}
	i.setup = setup{
		path: path, name: c.String("name"), server: c.String("server"), tls: config.TLS(c.String("tls")), user: c.String("user"),
		passwordCommand: c.String("password-command"), oauth: c.String("oauth"), clientID: c.String("client-id"), keep: c.String("keep"),
	}
	for _, group := range [][]string{{"password-file", "password-command", "oauth"}, {"maildir", "mbox"}} {
		if set := slices.DeleteFunc(group, func(f string) bool { return !c.IsSet(f) }); len(set) > 1 {
			return usagef("keep one of them", "both --%s and --%s are set", set[0], set[1])
		}
	}
	if c.IsSet("tls") && !c.IsSet("server") {
		return usagef("add --server", "--tls has no effect without --server: the server that is found decides")
	}
	if i.oauth != "" && !slices.Contains(config.OAuthProviders, i.oauth) {
		return usagef("known: "+strings.Join(config.OAuthProviders, ", ")+"; mailhaul.yaml(5) tells how to have another", "there is no provider %q", i.oauth)
	}
	for _, flag := range []string{"client-id", "client-secret-file"} {
		if i.oauth == "" && c.IsSet(flag) {
			return usagef("add --oauth", "--%s has no effect without --oauth", flag)
		}
	}
	for flag, into := range map[string]*string{
		"password-file": &i.passwordFile, "client-secret-file": &i.clientSecretFile, "maildir": &i.place, "mbox": &i.place,
	} {
		if !c.IsSet(flag) {
			continue
		}
		if *into, err = configPath(c.String(flag)); err != nil {
			return err
		}
		if into == &i.place {
			i.kind = flag
		}
	}
	return i.deriveSettings()
}

// deriveSettings checks what is there, and sets what follows from it.
func (i *initialisation) deriveSettings() error {
	domain := ""
	if i.address != "" {
		var err error
		if domain, err = discover.Domain(i.address); err != nil || !strings.Contains(i.address, "@") {
			return usagef("mailhaul init you@example.org; without such an address, --server and --user will do", "%q is not a mail address", i.address)
		}
		i.user = cmp.Or(i.user, i.address)
	}
	if host := cmp.Or(domain, i.server); i.name == "" && host != "" {
		i.name = nameOf(host)
	}
	if hint := config.NameHint(i.name); i.name != "" && hint != "" {
		return usagef(hint, "%q cannot be a name", i.name)
	}
	if i.tls == "" && strings.HasSuffix(i.server, ":110") {
		i.tls = config.TLSStart
	}
	return i.problem()
}

// nameOf returns what to call the account on a host or in a domain.
func nameOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return "mail"
	}
	name, _, _ := strings.Cut(host, ".")
	return name
}

// problem returns what is wrong with what is known so far.
func (i *initialisation) problem() error {
	_, err := i.parse()
	if e, ok := errors.AsType[*config.Error](err); ok {
		return usagef(e.Problems[0].Hint, "%s", e.Problems[0].Text)
	}
	return err
}

// missing returns what is not known and has no default.
func (i *initialisation) missing() []string {
	var left []string
	if i.address == "" && i.server == "" {
		left = append(left, "your mail address, or --server")
	}
	if i.address == "" && i.user == "" {
		left = append(left, "--user")
	}
	switch {
	case i.oauth != "" && i.clientID == "":
		left = append(left, "--client-id")
	case i.oauth == "" && i.passwordFile == "" && i.passwordCommand == "":
		left = append(left, "--password-file, --password-command or --oauth")
	}
	return left
}

// printNextSteps says what was written, and what to do next.
func (i *initialisation) printNextSteps() {
	out := i.std.out
	fmt.Fprintf(out, "\nwrote %s\n", tilde(i.path))
	for path := range i.files() {
		fmt.Fprintf(out, "wrote %s\n", tilde(path))
	}
	option := configOption(i.path)
	next := [][2]string{{"fetch --dry-run", "see what a fetch would do"}, {"fetch", "fetch it"}}
	switch {
	case i.oauth != "":
		next = slices.Insert(next, 0, [2]string{"login " + i.name, "allow the access, once"})
	case i.checkLater || !i.check:
		next = slices.Insert(next, 0, [2]string{"check", "try it, and see what is amiss"})
	}
	fmt.Fprintf(out, "\nNext:\n")
	for _, n := range next {
		fmt.Fprintf(out, "  %-34s # %s\n", "mailhaul "+n[0]+option, n[1])
	}
}
