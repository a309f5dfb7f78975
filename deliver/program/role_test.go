package program_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/deliver/program/playtest"
)

func TestMain(m *testing.M) { playtest.Main(m, play) }

// play runs a role of the test binary.
func play(role string, args []string) int {
	switch role {
	case "exit":
		code, _ := strconv.Atoi(args[0])
		fmt.Print(strings.Join(args[1:], " "))
		return code
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case "args":
		for _, arg := range args {
			fmt.Printf("%q\n", arg)
		}
	case "environment":
		for _, v := range os.Environ() {
			fmt.Println(v)
		}
	case "cat":
		n, err := io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintf(os.Stderr, "%d octets, %v", n, err)
	case "create":
		_ = os.WriteFile(args[0], nil, 0o666)
	case "shout":
		line := strings.Repeat("x", 99) + "\n"
		for range 100_000 {
			_, _ = os.Stderr.WriteString(line)
		}
		fmt.Fprint(os.Stderr, "the end")
		return 1
	case "write without end":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("x", 4096)); err != nil {
				return 0
			}
		}
	case "hang": // until the test hangs up
		return hang(args[0])
	case "hang on":
		signal.Ignore(syscall.SIGTERM)
		return hang(args[0])
	case "hang with a child":
		return spawn("hang on", args[0], true)
	case "leave a child":
		return spawn("hang on", args[0], false)
	case "run": // another role, on a file
		stdin, _ := os.Open(args[0])
		argv := playtest.Argv(args[1], args[2:]...)
		run := program.Run{Path: argv[0], Name: "agent", Args: argv[1:], Stdin: stdin}
		_, _ = run.Do(context.Background())
	case "read in two steps": // and tell what came
		conn, err := net.Dial("unix", args[0])
		if err != nil {
			return 1
		}
		first := make([]byte, 1)
		_, _ = io.ReadFull(os.Stdin, first)
		_, _ = conn.Write([]byte("!"))
		_, _ = conn.Read(make([]byte, 1))
		rest, err := io.ReadAll(os.Stdin)
		fmt.Fprintf(conn, "%s%s, %v", first, rest, err)
	case "hang and say bye":
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		conn, err := net.Dial("unix", args[0])
		if err != nil {
			return 1
		}
		<-term
		fmt.Fprint(conn, "bye")
	}
	return 0
}

// hang connects to the socket of the test and waits until the test closes the connection.
func hang(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, conn)
	return 0
}

// spawn starts a child process that has the same output and, if wait is set, hangs as well.
func spawn(role, socket string, wait bool) int {
	argv := playtest.Argv(role, socket)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1
	}
	if wait {
		return hang(socket)
	}
	return 0
}
