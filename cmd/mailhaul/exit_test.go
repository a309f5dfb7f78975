package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{worstOutcome(), 0},
		{worstOutcome(fetch.ClassFine), 0},
		{worstOutcome(fetch.ClassFine, fetch.ClassRefused), 65},
		{worstOutcome(fetch.ClassRefused, fetch.ClassRetry, fetch.ClassFine), 75},
		{worstOutcome(fetch.ClassOperator, fetch.ClassRetry), 77},
		{worstOutcome(fetch.ClassMachine, fetch.ClassOperator), 74},
		{usagef("", "wrong"), 64},
		{configError(&config.NotFound{}), 78},
		{fmt.Errorf("wrapped: %w", configError(&config.Error{})), 78},
		{&state.Error{Err: errors.New("others may enter it")}, 77},
		{errors.New("unforeseen"), 70},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("exit code of %v is %d, want %d", test.err, got, test.want)
		}
	}
}

// Every class of a poll has an exit code of its own, and a word in status.
func TestEveryClassHasACode(t *testing.T) {
	seen := map[int]bool{}
	for c := fetch.ClassFine; c <= fetch.ClassMachine; c++ {
		code, ok := exitCodeByClass[c]
		if !ok || seen[code] {
			t.Errorf("class %v: code %d, %v", c, code, ok)
		}
		seen[code] = true
		if _, ok := resultWords[c.String()]; !ok {
			t.Errorf("class %v has no word in status", c)
		}
	}
}

// A panic is a bug, and ends with its own exit code.
func TestPanicIsExit70(t *testing.T) {
	var out strings.Builder
	code := run(t.Context(), []string{"mailhaul", "--version"}, stdio{out: panicWriter{}, err: &out})
	if code != exitInternal || !strings.Contains(out.String(), "bug in mailhaul") {
		t.Errorf("code %d, output %q", code, out.String())
	}
}

// panicWriter is a writer that panicWriter.
type panicWriter struct{}

func (panicWriter) Write([]byte) (int, error) { panic("no paper") }

// An error is printed with its hint. No error, and a result that was reported already,
// print nothing.
func TestPrintError(t *testing.T) {
	var out strings.Builder
	printError(stdio{err: &out}, usagef("do this", "that is wrong"))
	printError(stdio{err: &out}, nil)
	printError(stdio{err: &out}, worstOutcome(fetch.ClassRetry))
	if want := "mailhaul: error: that is wrong\nmailhaul: hint: do this\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}
