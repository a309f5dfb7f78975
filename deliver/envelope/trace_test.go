package envelope_test

import (
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/deliver/envelope"
)

var arrived = time.Date(2006, 1, 2, 15, 4, 5, 0, time.FixedZone("", 3600))

func TestTrace(t *testing.T) {
	for _, tc := range []struct {
		name string
		hop  envelope.Hop
		want []string
	}{
		{
			"received alone",
			envelope.Hop{Server: "pop.example.com", Host: "here", TLS: true, Account: "work", Time: arrived},
			[]string{
				"Received: from pop.example.com by here with POP3S (mailhaul account work);",
				"\tMon, 2 Jan 2006 15:04:05 +0100",
			},
		},
		{
			"everything",
			envelope.Hop{
				Server: "192.0.2.1", Host: "here.example.org", Account: "work mail", For: "me@example.com", Time: arrived,
				DeliveredTo: "me", ReturnPath: true, Sender: "you@example.net",
			},
			[]string{
				"Return-Path: <you@example.net>",
				"Delivered-To: me",
				"Received: from [192.0.2.1] by here.example.org with POP3 (mailhaul account",
				"\twork mail) for <me@example.com>; Mon, 2 Jan 2006 15:04:05 +0100",
			},
		},
		{
			"null sender, address literals, a user that is no address",
			envelope.Hop{Server: "2001:db8::1", Host: "::ffff:192.0.2.7", Account: "a", For: "me", Time: arrived, ReturnPath: true},
			[]string{
				"Return-Path: <>",
				"Received: from [IPv6:2001:db8::1] by [192.0.2.7] with POP3 (mailhaul account",
				"\ta); Mon, 2 Jan 2006 15:04:05 +0100",
			},
		},
		{
			"injection",
			envelope.Hop{
				Server: "a\r\nX: 1", Host: "", Account: "x)\r\nX: 2\x00(", For: "a@b>\r\nX: 3", Time: arrived,
				DeliveredTo: "d\r\nX: 4", ReturnPath: true, Sender: "e@f>\r\nX: 5",
			},
			[]string{
				"Return-Path: <>",
				"Delivered-To: d??X: 4",
				"Received: from unknown by unknown with POP3 (mailhaul account x???X: 2??);",
				"\tMon, 2 Jan 2006 15:04:05 +0100",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := string(envelope.Trace(tc.hop))
			if diff := cmp.Diff(strings.Join(tc.want, "\r\n")+"\r\n", got); diff != "" {
				t.Errorf("Trace (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzTrace checks that no content of the strings can add another field.
func FuzzTrace(f *testing.F) {
	f.Add("pop.example.com", "here", "work", "me@example.com", "me", "you@example.net")
	f.Add("a\nb", "[::1", "(\\", "\r", "é \n\n", "\"\r\"@x")
	f.Fuzz(func(t *testing.T, server, host, account, user, to, sender string) {
		trace := string(envelope.Trace(envelope.Hop{
			Server: server, Host: host, Account: account, For: user, Time: arrived,
			DeliveredTo: to, ReturnPath: true, Sender: sender,
		}))
		if rest := strings.ReplaceAll(trace, "\r\n", ""); strings.ContainsAny(rest, "\r\n\x00") {
			t.Fatalf("a bare line end or a NUL in %q", trace)
		}
		msg, err := mail.ReadMessage(strings.NewReader(trace + "\r\n"))
		if err != nil {
			t.Fatalf("%v in %q", err, trace)
		}
		for name, values := range msg.Header {
			switch name {
			case "Return-Path", "Delivered-To", "Received":
				if len(values) != 1 {
					t.Errorf("%d fields %s in %q", len(values), name, trace)
				}
			default:
				t.Errorf("field %s in %q", name, trace)
			}
		}
	})
}
