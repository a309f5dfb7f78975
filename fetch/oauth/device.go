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
	// URL is the page to visit and UserCode the code to enter there.
	URL, UserCode string
	// WholeURL is the page with the code filled in; it may be empty.
	WholeURL string
	// Expires is when the code expires.
	Expires time.Time
}

// deviceResponse is the response of a device authorization endpoint (RFC 8628 §3.2).
type deviceResponse struct {
	DeviceCode string  `json:"device_code"`
	UserCode   string  `json:"user_code"`
	URL        string  `json:"verification_uri"`
	OldURL     string  `json:"verification_url"` // by Google, from before the RFC
	WholeURL   string  `json:"verification_uri_complete"`
	ExpiresIn  seconds `json:"expires_in"`
	Interval   seconds `json:"interval"`
}

// Device lets a person log in on any device that has a browser (RFC 8628). It calls
// show to tell them how. Errors are *GrantError, with the code access_denied if the
// person refused and expired_token if they did not come, *TemporaryError, and that of
// ctx.
func (c *Client) Device(ctx context.Context, show func(DeviceCode)) (Grant, error) {
	if err := c.Discover(ctx); err != nil {
		return Grant{}, err
	}
	if c.Provider.DeviceURL == "" {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "has no login for mail by another device", Advice: c.loginAdvice() + ", without --device"}
	}
	form := url.Values{}
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	var d deviceResponse
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
	expires := time.Now().Add(cmp.Or(time.Duration(d.ExpiresIn), 15*time.Minute))
	show(DeviceCode{URL: d.URL, UserCode: d.UserCode, WholeURL: d.WholeURL, Expires: expires})

	t, err := c.pollDevice(ctx, d, expires)
	if err != nil {
		return Grant{}, err
	}
	return c.newGrant(t)
}

// pollDevice requests the tokens until the person has answered (RFC 8628 §3.4, §3.5).
func (c *Client) pollDevice(ctx context.Context, d deviceResponse, expires time.Time) (*tokenResponse, error) {
	interval := cmp.Or(time.Duration(d.Interval), 5*time.Second) // RFC 8628 §3.2
	var trouble error                                            // the temporary error of the last request
	for {
		if time.Until(expires) < interval {
			// After trouble, the person may have entered the code.
			return nil, cmp.Or(trouble, error(c.newGrantError("expired_token", "")))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(interval):
		}
		t, err := c.requestTokens(ctx, url.Values{
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
