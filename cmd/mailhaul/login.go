package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

func loginCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "login",
		Usage:     "let mailhaul into an account or a sink by OAuth 2.0, once",
		ArgsUsage: "NAME",
		Description: "A browser opens at the provider, where you log in and allow the access. From then on\n" +
			"mailhaul renews it by itself. What it needs for that is kept in the folder oauth of\n" +
			"the state; whoever can read it can read the mail. A running daemon notices within\n" +
			"seconds, and polls.\n\n" +
			"NAME is an account or a sink; if both have that name, it is the account. Those with\n" +
			"the same user and the same client share one login.\n\n" +
			"Its oauth names a client, which you register with the provider:\n" +
			"  google     console.cloud.google.com, an OAuth client of type Desktop app. While\n" +
			"             the app is in testing, Google ends each access after 7 days.\n" +
			"  microsoft  entra.microsoft.com, an app registration with the redirect URI\n" +
			"             http://localhost for mobile and desktop applications, and public\n" +
			"             client flows allowed for --device\n" +
			"  yahoo      developer.yahoo.com, with the permission for mail\n\n" +
			"Exit codes: 0 logged in; 75 temporary trouble; 77 access was denied; others as for\n" +
			"mailhaul fetch.",
		Flags: []cli.Flag{
			configFlag(),
			toggle("device", "show a code to enter in a browser on any device; not possible with google and yahoo"),
			toggle("no-browser", "print the address instead of opening a browser"),
		},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runLogin(c, std) },
	}
}

// runLogin obtains a grant from the user and stores it.
func runLogin(c *cli.Context, std stdio) error {
	if c.NArg() != 1 {
		return usagef("mailhaul login work", "mailhaul login takes the name of one account or sink")
	}
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	l, err := chooseOAuthLogin(cfg, c.Args().First())
	if err != nil {
		return err
	}
	ctx, stop := cancelOnSignal(c.Context, std, nil)
	defer stop()
	store, err := state.Open(ctx, cfg.State) // creates the folder and checks that it is private
	if err != nil {
		return err
	}
	defer store.Close()

	client := l.oauthClientForAll(oauthLogins(cfg))
	var grant oauth.Grant
	if c.Bool("device") {
		grant, err = loginWithCode(ctx, std.out, client)
	} else {
		grant, err = loginInBrowser(ctx, std.out, client, !c.Bool("no-browser"), cfg.Environ())
	}
	if err == nil {
		err = oauth.NewStore(cfg.State).Save(ctx, client, grant)
	}
	if err != nil {
		return loginError(l.name, err)
	}
	try := "mailhaul check " + l.name
	if l.protocol != oauth.POP {
		try = "mailhaul check"
	}
	fmt.Fprintf(std.out, "%s: logged in; %s tries it\n", l.name, try)
	if _, warning := describeGrant(grant, l.name, time.Now()); warning != "" {
		fmt.Fprintf(std.out, "  %s\n", warning)
	}
	return nil
}

// chooseOAuthLogin returns the login of the account of that name, or else of the sink. It
// must be by OAuth.
func chooseOAuthLogin(cfg *config.Config, name string) (serverLogin, error) {
	var l serverLogin
	var kind string
	if a := cfg.Account(name); a != nil {
		l, kind = accountLogin(*a), "account"
	} else if s := cfg.Sink(name); s != nil {
		l, kind = sinkLogin(*s), "sink"
	} else {
		return serverLogin{}, noSuchLogin(cfg, name)
	}
	if l.OAuth == nil {
		return serverLogin{}, usagef("set its oauth; mailhaul.yaml(5) explains it", "%s %s does not log in by OAuth", kind, name)
	}
	return l, nil
}

// noSuchLogin returns the usage error for a name that no account and no sink has.
func noSuchLogin(cfg *config.Config, name string) error {
	var known []string
	for _, l := range oauthLogins(cfg) {
		known = append(known, l.name)
	}
	hint := "with oauth: " + listNames(known)
	if len(known) == 0 {
		hint = "none of them has oauth; mailhaul.yaml(5) explains it"
	}
	return usagef(hint, "there is no account or sink %q in %s", name, cfg.Path)
}

// loginWithCode shows a code to enter in a browser on any device, and waits for the login.
func loginWithCode(ctx context.Context, out io.Writer, c *oauth.Client) (oauth.Grant, error) {
	return c.Device(ctx, func(d oauth.DeviceCode) {
		fmt.Fprintf(out, "Log in as %s: open %s and enter\n\n  %s\n\n", c.User, clean(d.URL), clean(d.UserCode))
		if d.WholeURL != "" {
			fmt.Fprintf(out, "or open %s\n\n", clean(d.WholeURL))
		}
		fmt.Fprintf(out, "The code is good for %s.\n", span(time.Until(d.Expires).Round(time.Second)))
	})
}

// loginInBrowser waits for a login in a browser on this machine. If open is set, it opens
// one, in the environment env; otherwise, or if that fails, it prints the address to open.
func loginInBrowser(ctx context.Context, out io.Writer, c *oauth.Client, open bool, env []string) (oauth.Grant, error) {
	return c.Browser(ctx, func(address string) error {
		if open && openBrowser(ctx, address, env) {
			fmt.Fprintf(out, "Log in as %s in the browser. If none opens, go to\n\n  %s\n\n", c.User, address)
			return nil
		}
		fmt.Fprintf(out, "Log in as %s: open in a browser on this machine\n\n  %s\n\n", c.User, address)
		if port := redirectPort(address); port != "" {
			fmt.Fprintf(out, "For a browser on another machine, run there first:\n\n  ssh -L %s:127.0.0.1:%s HOST\n\n", port, port)
		}
		return nil
	})
}

// openBrowser opens an address in the browser of the user, and reports whether a program
// for that could be started.
func openBrowser(ctx context.Context, address string, env []string) bool {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	cmd := exec.CommandContext(ctx, program, address)
	cmd.Env = env
	if cmd.Start() != nil {
		return false
	}
	go cmd.Wait() // its exit code says nothing about the login
	return true
}

// redirectPort returns the port of the redirect URI in the address of a login page, "" if
// there is none.
func redirectPort(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	back, err := url.Parse(u.Query().Get("redirect_uri"))
	if err != nil {
		return ""
	}
	return back.Port()
}

// loginError wraps the error of a login and chooses the exit code.
func loginError(name string, err error) error {
	if errors.Is(err, context.Canceled) {
		return &failure{fmt.Errorf("%s: not logged in", name), exitRetry, ""}
	}
	_, denied := errors.AsType[*oauth.GrantError](err)
	_, temporary := errors.AsType[*oauth.TemporaryError](err)
	exit := exitMachine
	switch {
	case denied:
		exit = exitPerson
	case temporary:
		exit = exitRetry
	}
	// The text may come from the provider, or from whoever stands in its place, such as
	// the names in a certificate that is not trusted.
	return &failure{fmt.Errorf("%s: not logged in: %s", name, clean(err.Error())), exit, oauthHint(err)}
}

// oauthHint returns what the user can do about an error of OAuth, or "".
func oauthHint(err error) string {
	if e, ok := errors.AsType[*oauth.GrantError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*channel.ProxyError](err); ok {
		return e.Hint()
	}
	return ""
}
