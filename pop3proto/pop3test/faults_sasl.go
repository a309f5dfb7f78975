package pop3test

import (
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

// AlterChallenge has alter rewrite the challenges of AUTH, base64 undone, on
// their way to the client: with it a SCRAM server loses its nonce, asks for
// more iterations or signs wrongly.
func AlterChallenge(alter func(challenge string) string) Fault {
	return onVerbs(func(x *Exchange) {
		x.Act()
		if challenge, ok := x.challenge(); ok {
			x.Reply = text("+ " + base64.StdEncoding.EncodeToString([]byte(alter(challenge))))
		}
	}, "AUTH", Response)
}

// SkipProof has the server accept a login by SCRAM where it would have to
// prove that it knows the password: what somebody does who stands in for it.
func SkipProof() Fault {
	return On(Response, func(x *Exchange) {
		x.Act()
		if challenge, _ := x.challenge(); strings.HasPrefix(challenge, "v=") {
			x.Reply = x.s.respond("", x.s.sasl)
		}
	})
}

// RefuseInitialResponse has AUTH end the session if it comes with an initial
// response, as Microsoft's server does for XOAUTH2.
func RefuseInitialResponse() Fault {
	return On("AUTH", func(x *Exchange) {
		x.Reply = io.MultiReader(text("-ERR Protocol error. Connection is closed. 10"), ending{HangUp})
	}).When(func(x *Exchange) bool { return strings.Contains(x.Args, " ") })
}

// challenge returns what the reply asks of the client, if it is a challenge.
func (x *Exchange) challenge() (string, bool) {
	if x.s.sasl == nil {
		return "", false
	}
	reply, err := io.ReadAll(x.Reply)
	x.Reply = strings.NewReader(string(reply))
	var end End
	if errors.As(err, &end) { // of another fault
		x.Reply = io.MultiReader(x.Reply, ending{end})
	}
	line := strings.TrimSuffix(string(reply), "\r\n")
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "+ "))
	return string(challenge), err == nil
}
