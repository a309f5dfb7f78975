package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"
)

// DeviceCode is what a person needs to log in on another device.
type DeviceCode struct {
	// URL is where to go and UserCode what to enter there.
	URL, UserCode string
	// WholeURL holds the code already; it may be empty.
	WholeURL string
	// Expires is when the code has no use any more.
	Expires time.Time
}

// deviceAnswer is what a device authorization endpoint gives (RFC 8628 §3.2).
type deviceAnswer struct {
	DeviceCode string  `json:"device_code"`
	UserCode   string  `json:"user_code"`
	URL        string  `json:"verification_uri"`
	OldURL     string  `json:"verification_url"` // Google's name for it, from before the RFC
	WholeURL   string  `json:"verification_uri_complete"`
	Life       seconds `json:"expires_in"`
	Interval   seconds `json:"interval"`
}

// Device has a person log in on any device that has a browser (RFC 8628).
// show tells them how. Errors are *GrantError — with the codes access_denied
// and expired_token if the person refused or did not come —, *TemporaryError
// and ctx's.
func (c *Client) Device(ctx context.Context, show func(DeviceCode)) (Grant, error) {
	if err := c.Discover(ctx); err != nil {
		return Grant{}, err
	}
	if c.Provider.DeviceURL == "" {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "has no login for mail by another device", Advice: c.login() + ", without --device"}
	}
	form := url.Values{}
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	var d deviceAnswer
	if err := c.post(ctx, c.Provider.DeviceURL, form, &d); err != nil {
		return Grant{}, err
	}
	d.URL = cmp.Or(d.URL, d.OldURL)
	if !isToken(d.DeviceCode) || d.UserCode == "" || CheckURL(d.URL) != nil {
		return Grant{}, &TemporaryError{Provider: c.Provider.Name, Err: errors.New("the answer holds no code")}
	}
	if d.WholeURL != "" && CheckURL(d.WholeURL) != nil {
		d.WholeURL = ""
	}
	// RFC 8628 §3.2 requires it of the provider.
	expires := time.Now().Add(cmp.Or(time.Duration(d.Life), 15*time.Minute))
	show(DeviceCode{URL: d.URL, UserCode: d.UserCode, WholeURL: d.WholeURL, Expires: expires})

	t, err := c.pollDevice(ctx, d, expires)
	if err != nil {
		return Grant{}, err
	}
	return c.grant(t)
}

// pollDevice asks for the tokens until the person has answered (RFC 8628
// §3.4, §3.5).
func (c *Client) pollDevice(ctx context.Context, d deviceAnswer, expires time.Time) (*tokens, error) {
	interval := cmp.Or(time.Duration(d.Interval), 5*time.Second) // RFC 8628 §3.2
	// trouble is that of the last request.
	var trouble error
	for {
		if time.Until(expires) < interval {
			// After trouble, whether somebody has entered the code is not known.
			return nil, cmp.Or(trouble, error(c.refusal("expired_token", "")))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(interval):
		}
		t, err := c.ask(ctx, url.Values{
			"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
			"device_code": {d.DeviceCode},
		})
		if err == nil {
			return t, nil
		}
		trouble = nil
		var refused *GrantError
		var temporary *TemporaryError
		switch {
		case errors.As(err, &refused) && refused.Code == "authorization_pending":
		case errors.As(err, &refused) && refused.Code == "slow_down":
			interval += 5 * time.Second
		case errors.As(err, &temporary):
			// RFC 8628 §3.5: after a timeout, poll less often.
			trouble = err
			interval = max(interval, min(2*interval, time.Minute), temporary.After)
		default:
			return nil, err
		}
	}
}
