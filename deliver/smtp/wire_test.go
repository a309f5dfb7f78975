package smtp_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// dialSlow returns a dialer of connections whose reads return a few octets at most.
func dialSlow(octets int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return slowConn{conn, octets}, err
	}
}

type slowConn struct {
	net.Conn
	octets int
}

func (c slowConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(len(p), c.octets)]) }

// A reply may be a code without text (RFC 5321 §4.2), and a read may end anywhere in it.
func TestReplyWithoutText(t *testing.T) {
	bare := map[string]string{
		"greeting": "220", "MAIL": "250", "RCPT": "250", "DATA": "354", "message": "250", "RSET": "250", "QUIT": "221",
		"EHLO": "250-here\r\n250-SIZE 1000\r\n250", "LHLO": "250-here\r\n250-SIZE 1000\r\n250",
	}
	for _, lmtp := range []bool{false, true} {
		for _, octets := range []int{1, 2, 3, 4, 5, 1000} {
			srv := &scripted{lmtp: lmtp, reply: func(_ int, verb, line string) string {
				if strings.Contains(line, "refused@") {
					return "550"
				}
				return bare[verb]
			}}
			srv.start(t)
			opts := options(t, srv.addr)
			opts.LMTP, opts.Server.Dial = lmtp, dialSlow(octets)
			s := newSink(t, opts)
			large := "Subject: x\r\n\r\n" + strings.Repeat("x", 1000)
			o := send(t, t.Context(), s, "", body(0), large, body(2))
			o.wantLanded(t, 0, 2)
			wantError(t, o.receipts[1].Err, deliver.FaultMessage, "SIZE is 1000")
			o = send(t, t.Context(), s, "refused@example.org", body(3), body(4))
			o.wantLanded(t)
			wantError(t, o.receipts[0].Err, deliver.FaultMessage, "MAIL: 550")
			srv.wantBodies(t, body(0), body(2))
			srv.wantSessions(t, 1)
		}
	}
}

// Any reply 2yz means success, for a command as for a message (RFC 5321 §4.3.2). The
// message must not be sent again.
func TestAnyPositiveReply(t *testing.T) {
	// The buffer of go-smtp, of 4,096 octets, ends within the final dot of this message.
	long := "Subject: x\r\n\r\n" + strings.Repeat("RCPT\r\n", 680)
	for _, reply := range []string{"200 fine", "251-it is\r\n251 forwarded", "252", "299 2.0.0 fine"} {
		for _, verb := range []string{"EHLO", "LHLO", "MAIL", "RSET", "message"} {
			for _, lmtp := range []bool{false, true} {
				srv := &scripted{lmtp: lmtp, reply: func(_ int, v, line string) string {
					if strings.HasPrefix(line, "MAIL FROM:<refused@") {
						return "550 no" // so that there is a RSET
					}
					if v == verb {
						return reply
					}
					return ""
				}}
				srv.start(t)
				opts := options(t, srv.addr)
				opts.LMTP = lmtp
				s := newSink(t, opts)
				send(t, t.Context(), s, "refused@example.org", body(0)).wantLanded(t)
				send(t, t.Context(), s, "", body(1), body(2), long).wantLanded(t, 0, 1, 2)
				srv.wantBodies(t, body(1), body(2), long)
				srv.wantSessions(t, 1)
			}
		}
	}
}

// A line that only begins like a reply is none.
func TestMalformedReply(t *testing.T) {
	for _, reply := range []string{"250\rfine", "25", "2500", "250\x00", "x250"} {
		srv := &scripted{reply: replyAlways("MAIL", "", reply)}
		srv.start(t)
		o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0))
		o.wantLanded(t)
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary)
	}
}

// The keywords of extensions are case-insensitive (RFC 5321 §2.4). The text of the final
// reply is reported unchanged.
func TestExtensionsInLowerCase(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp, extensions: []string{"size 1000", "8BitMIME", "smtpUTF8", "auth plain Login"}}
		srv.reply = replyOnce(map[string]string{"message": "250 ok Queued"})
		srv.start(t)
		opts := options(t, srv.addr)
		opts.LMTP, opts.Server.User, opts.Server.Secret = lmtp, "me", secret
		opts.Server.Dial = dialSlow(3)
		opts.To = []string{"mé@example.org"}
		opts.Server.Auth = []string{"plain"}
		large := "Subject: x\r\n\r\n" + strings.Repeat("x", 1000)
		o := send(t, t.Context(), newSink(t, opts), "", large, body(1))
		o.wantLanded(t, 1)
		wantError(t, o.receipts[0].Err, deliver.FaultMessage, "SIZE is 1000")
		if where := o.receipts[1].Where; !strings.HasSuffix(where, `"ok Queued"`) {
			t.Errorf("where: %s", where)
		}
		if sent := srv.commands("MAIL"); !slices.Equal(sent, []string{"MAIL FROM:<> BODY=8BITMIME SIZE=25 SMTPUTF8"}) {
			t.Errorf("the client sent %q", sent)
		}
	}
}

// A server that refuses LHLO speaks SMTP. The sink does not fall back to HELO, or the
// server would accept the same message each time that it is sent.
func TestServerIsNotLMTP(t *testing.T) {
	for reply, want := range map[string]string{
		"502 5.5.2 unknown":       `502 "5.5.2 unknown"`,
		"500-what\r\n500 unknown": `500 "unknown"`,
		"500":                     `500 ""`,
	} {
		srv := &scripted{reply: replyAlways("LHLO", "", reply)}
		srv.start(t)
		opts := options(t, srv.addr)
		opts.LMTP = true
		_, err := newSink(t, opts).Begin(t.Context())
		wantError(t, err, deliver.FaultOperator, "LHLO: "+want)
		wantHint(t, err, "SMTP where the sink has lmtp")
		if sent := srv.commands("HELO"); len(sent) > 0 {
			t.Errorf("the client sent %q", sent)
		}
	}
}

// A message may begin like the command HELO.
func TestMessageBeginsWithHELO(t *testing.T) {
	srv := &scripted{lmtp: true}
	srv.start(t)
	opts := options(t, srv.addr)
	opts.LMTP, opts.To = true, []string{"a@example.org"}
	send(t, t.Context(), newSink(t, opts), "", "HELO there\r\n").wantLanded(t, 0)
	srv.wantBodies(t, "HELO there\r\n")
}
