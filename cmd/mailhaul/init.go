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
			newConfigFlag(),
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
			i := initRun{std: std, yes: c.Bool("yes"), check: !c.Bool("no-check")}
			return i.run(c)
		},
	}
}

// initRun is a run of mailhaul init. Its questions are in questions.go.
type initRun struct {
	std        stdio
	yes, check bool // --yes; not --no-check
	checkLater bool // the user went on despite a failed login
	address    string
	setup
	given    func(flag string) bool // reports whether a flag is set: init does not ask for it
	ask      *prompter              // nil with --yes
	provider *discover.Provider     // who runs the server; nil if unknown
}

func (i *initRun) run(c *cli.Context) error {
	ctx, stop := cancelOnSignal(c.Context, i.std, nil)
	defer stop()
	if err := i.readOptions(c); err != nil {
		return err
	}
	missing := "nothing is missing"
	if settings := i.missing(); len(settings) > 0 {
		missing = "missing: " + strings.Join(settings, "; ")
		if i.yes {
			return usagef("mailhaul help init lists the options", "%s", missing)
		}
	}
	if !i.yes && !i.std.canAsk() {
		return usagef("--yes takes the defaults and asks nothing; "+missing, "there is no terminal to ask at")
	}
	if !i.yes {
		i.ask = newPrompter(ctx, i.std)
	}
	err := i.askForMissing(ctx)
	switch {
	case errors.Is(err, errNoAnswer), ctx.Err() != nil:
		return &failure{errors.New("nothing was written"), exitRetry, ""}
	case err != nil:
		return err
	}
	if err := i.write(); err != nil {
		return &failure{err, exitMachine, ""}
	}
	i.writeNextSteps()
	return nil
}

// readOptions reads and checks the command line.
func (i *initRun) readOptions(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("mailhaul init you@example.org", "mailhaul init takes one address")
	}
	i.address, i.given = c.Args().First(), c.IsSet
	path, err := newConfigPath(c.String("config"))
	if err != nil {
		return err
	}
	i.setup = setup{
		path:            path,
		name:            c.String("name"),
		server:          c.String("server"),
		tls:             config.TLS(c.String("tls")),
		user:            c.String("user"),
		passwordCommand: c.String("password-command"),
		oauth:           c.String("oauth"),
		clientID:        c.String("client-id"),
		keep:            c.String("keep"),
	}
	if err := i.checkFlags(c); err != nil {
		return err
	}
	for _, kind := range []string{"maildir", "mbox"} {
		if c.IsSet(kind) {
			i.kind = kind
		}
	}
	for flag, setting := range map[string]*string{
		"password-file": &i.passwordFile, "client-secret-file": &i.clientSecretFile, "maildir": &i.place, "mbox": &i.place,
	} {
		if !c.IsSet(flag) {
			continue
		}
		if *setting, err = pathInConfig(c.String(flag)); err != nil {
			return err
		}
	}
	return i.deriveSettings()
}

// checkFlags returns a usage error for flags that contradict each other.
func (i *initRun) checkFlags(c *cli.Context) error {
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
	return nil
}

// deriveSettings checks the settings so far, and derives others from them.
func (i *initRun) deriveSettings() error {
	domain := ""
	if i.address != "" {
		var err error
		if domain, err = discover.Domain(i.address); err != nil || !strings.Contains(i.address, "@") {
			return usagef("mailhaul init you@example.org; without such an address, --server and --user will do", "%q is not a mail address", i.address)
		}
		i.user = cmp.Or(i.user, i.address)
	}
	if host := cmp.Or(domain, i.server); i.name == "" && host != "" {
		i.name = accountNameFor(host)
	}
	if hint := config.NameHint(i.name); i.name != "" && hint != "" {
		return usagef(hint, "%q cannot be a name", i.name)
	}
	if i.tls == "" && strings.HasSuffix(i.server, ":110") {
		i.tls = config.TLSStart
	}
	return i.validate()
}

// accountNameFor returns a name for the account on a host or in a domain: its first label.
func accountNameFor(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return "mail"
	}
	name, _, _ := strings.Cut(host, ".")
	return name
}

// validate returns the first mistake in the settings so far, as a usage error.
func (i *initRun) validate() error {
	_, err := i.parse()
	if e, ok := errors.AsType[*config.Error](err); ok {
		return usagef(e.Problems[0].Hint, "%s", e.Problems[0].Text)
	}
	return err
}

// missing returns the settings that are not known and have no default, as options.
func (i *initRun) missing() []string {
	var missing []string
	if i.address == "" && i.server == "" {
		missing = append(missing, "your mail address, or --server")
	}
	if i.address == "" && i.user == "" {
		missing = append(missing, "--user")
	}
	switch {
	case i.oauth != "" && i.clientID == "":
		missing = append(missing, "--client-id")
	case i.oauth == "" && i.passwordFile == "" && i.passwordCommand == "":
		missing = append(missing, "--password-file, --password-command or --oauth")
	}
	return missing
}

// writeNextSteps writes which files were written, and the commands to run next.
func (i *initRun) writeNextSteps() {
	out := i.std.out
	fmt.Fprintf(out, "\nwrote %s\n", tilde(i.path))
	for path := range i.secretFiles() {
		fmt.Fprintf(out, "wrote %s\n", tilde(path))
	}
	option := configOption(i.path)
	step := func(command, purpose string) {
		fmt.Fprintf(out, "  %-34s # %s\n", "mailhaul "+command+option, purpose)
	}
	fmt.Fprintf(out, "\nNext:\n")
	switch {
	case i.oauth != "":
		step("login "+i.name, "allow the access, once")
	case i.checkLater || !i.check:
		step("check", "try it, and see what is amiss")
	}
	step("fetch --dry-run", "see what a fetch would do")
	step("fetch", "fetch it")
}
