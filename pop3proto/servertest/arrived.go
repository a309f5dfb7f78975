package servertest

import (
	"context"
	"fmt"
	"strings"
)

// Arrived waits until mail has been delivered to a user a number of times, and
// returns all there is, with LF line ends and without the fields that the
// server put before it. It fails the test if it does not come.
func (s *Server) Arrived(user string, want int) (msgs []string) {
	s.tb.Helper()
	err := await(context.Background(), func(context.Context) error {
		stored := s.messages(user)
		if len(stored) < want {
			return fmt.Errorf("%s has %d messages, want %d", user, len(stored), want)
		}
		for _, msg := range stored {
			msgs = append(msgs, original(string(msg)))
		}
		return nil
	})
	if err != nil {
		s.tb.Fatalf("%v\n%s", err, s.log())
	}
	return msgs
}

// original takes off what a server puts before a message: Return-Path and who
// it is for, then one Received field, folded.
func original(msg string) string {
	for _, name := range []string{"Return-Path: ", "X-Original-To: ", "Delivered-To: "} {
		if line, rest, ok := strings.Cut(msg, "\n"); ok && strings.HasPrefix(line, name) {
			msg = rest
		}
	}
	if !strings.HasPrefix(msg, "Received: ") {
		return msg
	}
	for first := true; first || strings.HasPrefix(msg, "\t") || strings.HasPrefix(msg, " "); first = false {
		_, msg, _ = strings.Cut(msg, "\n")
	}
	return msg
}
