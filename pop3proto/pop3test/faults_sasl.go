package pop3test

import (
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

// AlterChallenge passes the challenges of AUTH, base64 undone, through alter: with it, a
// SCRAM server can lose its nonce, ask for more iterations or send a wrong signature.
func AlterChallenge(alter func(challenge string) string) Fault {
	return onVerbs(func(x *Exchange) {
		x.Act()
		if challenge, ok := x.challenge(); ok {
			x.Reply = replyLine("+ " + base64.StdEncoding.EncodeToString([]byte(alter(challenge))))
		}
	}, "AUTH", Response)
}

// SkipProof makes the server accept a SCRAM login without proving that it knows the
// password, as an impostor would.
func SkipProof() Fault {
	return On(Response, func(x *Exchange) {
		x.Act()
		if challenge, _ := x.challenge(); strings.HasPrefix(challenge, "v=") {
			x.Reply = x.s.handleResponse("", x.s.nextStep)
		}
	})
}

// RefuseInitialResponse makes AUTH with an initial response end the session, as
// Microsoft's server does for XOAUTH2.
func RefuseInitialResponse() Fault {
	return On("AUTH", func(x *Exchange) {
		x.Reply = io.MultiReader(replyLine("-ERR Protocol error. Connection is closed. 10"), endReader{HangUp})
	}).When(func(x *Exchange) bool { return strings.Contains(x.Args, " ") })
}

// challenge returns the challenge in the reply, base64 undone, if it is one.
func (x *Exchange) challenge() (string, bool) {
	if x.s.nextStep == nil {
		return "", false
	}
	reply, err := io.ReadAll(x.Reply)
	x.Reply = strings.NewReader(string(reply))
	var end End
	if errors.As(err, &end) { // of another fault
		x.Reply = io.MultiReader(x.Reply, endReader{end})
	}
	line := strings.TrimSuffix(string(reply), "\r\n")
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "+ "))
	return string(challenge), err == nil
}
