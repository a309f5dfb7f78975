package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// providers is the key of a script's OAuth providers, by name.
type providers struct{}

// startProvider is oauthprovider NAME [ORDER [VALUE]]…: it starts a provider
// that gives every user access. The orders are
//
// ends DURATION       grants end after so long
//
//	rotate              each refresh token is good for once
//	deny CODE           access is refused
//	pending CODE        the first poll of a device code is answered with CODE
//
// $NAME is then its address, $NAME_place that without http://, and $NAME_secret
// the client's secret.
func startProvider(ts *testscript.TestScript, _ bool, args []string) {
	// The shortest interval, so that a test waits for a second only.
	opts := oauthtest.Options{Interval: time.Second}
	for i := 1; i < len(args); i++ {
		order := args[i]
		if order == "rotate" {
			opts.Rotate = true
			continue
		}
		i++
		switch order {
		case "ends":
			d, err := time.ParseDuration(args[i])
			ts.Check(err)
			opts.RefreshLife = d
		case "deny":
			opts.Deny = args[i]
		case "pending":
			opts.Pending = append(opts.Pending, args[i])
		default:
			ts.Fatalf("unknown order %q", order)
		}
	}
	p := oauthtest.New(opts)
	p.Start()
	ts.Defer(p.Close)
	ts.Setenv(args[0], p.URL)
	ts.Setenv(args[0]+"_place", strings.TrimPrefix(p.URL, "http://"))
	ts.Setenv(args[0]+"_secret", p.Secret())
	ts.Value(providers{}).(map[string]*oauthtest.Server)[args[0]] = p
}

// addressIn finds the address that mailhaul login prints.
var addressIn = regexp.MustCompile(`(?m)^  (http://\S+/authorize\?\S+)$`)

// browse FILE opens the address that a login has written to FILE.
func browse(ts *testscript.TestScript, _ bool, args []string) {
	found := addressIn.FindStringSubmatch(ts.ReadFile(args[0]))
	if found == nil {
		ts.Fatalf("there is no address in %s", args[0])
	}
	page, err := visit(found[1])
	ts.Check(err)
	if !strings.Contains(page, "Done.") {
		ts.Fatalf("the browser shows %q", page)
	}
}

// browser is the program xdg-open of the scripts.
func browser() {
	if _, err := visit(os.Args[1]); err != nil {
		os.Exit(1)
	}
}

// visit opens an address and follows redirects.
func visit(address string) (page string, err error) {
	resp, err := http.Get(address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// secretsOf returns the texts that must never be seen in a script with these providers:
// the password, and the secrets of OAuth, also encoded and cut short.
func secretsOf(of any) []string {
	all := []string{password}
	for _, p := range of.(map[string]*oauthtest.Server) {
		for _, secret := range p.Secrets() {
			encoded := base64.StdEncoding.EncodeToString([]byte(secret))
			all = append(all, secret[:20], secret[len(secret)-20:], encoded[:20])
		}
	}
	return all
}

// isGrant reports whether a file is meant to hold a refresh token.
func isGrant(path string) bool {
	return filepath.Base(filepath.Dir(path)) == "oauth" && filepath.Ext(path) == ".json"
}
