package oauth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

const (
	pending  = "authorization_pending"
	slowDown = "slow_down"
)

func TestDevice(t *testing.T) {
	for name, test := range map[string]struct {
		opts  oauthtest.Options
		fault []oauthtest.Fault
		code  string // of the error, "" for a grant
		took  time.Duration
	}{
		"at once":                  {oauthtest.Options{}, nil, "", 5 * time.Second},
		"with an interval":         {oauthtest.Options{Interval: 2 * time.Second, Pending: []string{pending, pending}}, nil, "", 6 * time.Second},
		"slow down":                {oauthtest.Options{Pending: []string{slowDown, pending}}, nil, "", 25 * time.Second},
		"denied":                   {oauthtest.Options{Pending: []string{pending, "access_denied"}}, nil, "access_denied", 10 * time.Second},
		"expired, by the provider": {oauthtest.Options{Pending: []string{"expired_token"}}, nil, "expired_token", 5 * time.Second},
		"expired, by the clock":    {oauthtest.Options{DeviceLife: 12 * time.Second, Pending: []string{pending, pending, pending}}, nil, "expired_token", 10 * time.Second},
		"another error":            {oauthtest.Options{Pending: []string{"invalid_request"}}, nil, "invalid_request", 5 * time.Second},
		"a temporary error":        {oauthtest.Options{}, []oauthtest.Fault{oauthtest.Status(502)}, "", 15 * time.Second},
		"a temporary error, with a long interval": {
			oauthtest.Options{Interval: 90 * time.Second}, []oauthtest.Fault{oauthtest.Status(502)}, "", 180 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(test.opts)
				p.Next(test.fault...)
				c := client(p)
				var shown oauth.DeviceCode
				start := time.Now()
				g, err := c.Device(t.Context(), func(d oauth.DeviceCode) { shown = d })
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
				if shown.URL != p.URL+"/activate" || shown.UserCode == "" || !shown.Expires.After(start) {
					t.Errorf("shown %+v", shown)
				}
				switch {
				case test.code != "":
					checkGrantError(t, err, test.code)
					checkNoSecrets(t, p, err.Error())
				case err != nil:
					t.Error(err)
				case g.User != mailbox || g.Provider != "test" || g.Granted.IsZero() || len(g.Scopes) != 1:
					t.Errorf("got %+v", g)
				}
			})
		})
	}
}

// If the provider fails until the code expires, the error is temporary: the person may
// have entered the code. If it answers again before that, nobody has entered it.
func TestDeviceFailsUntilExpiry(t *testing.T) {
	for name, faults := range map[string][]oauthtest.Fault{
		"until expiry": {oauthtest.Refuse(pending), oauthtest.Status(503), oauthtest.Status(503)},
		"before that":  {oauthtest.Status(503), oauthtest.Refuse(pending), oauthtest.Refuse(pending)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{DeviceLife: 30 * time.Second})
				_, err := client(p).Device(t.Context(), func(oauth.DeviceCode) { p.Next(faults...) })
				if name == "until expiry" {
					checkTemporary(t, err)
				} else {
					checkGrantError(t, err, "expired_token")
				}
			})
		})
	}
}

func TestDeviceContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := client(p).Device(ctx, func(oauth.DeviceCode) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNoDeviceFlow(t *testing.T) {
	c := &oauth.Client{Provider: oauth.Google(), Account: "work"}
	_, err := c.Device(t.Context(), nil)
	checkGrantError(t, err, "")
}
