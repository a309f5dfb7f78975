package pop3test_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// TestTranscripts runs the sessions in testdata. The client sends consecutive "C: " lines
// in one write, and "S: " lines are the replies it must receive. At "end" the server must
// close the connection. At "connect" the client hangs up and connects again. Lines with
// "#" are comments.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, _ := start(t, pop3test.Options{
				Behaviour: pop3test.Behaviour{Timestamp: stamp},
			})
			s.Account("mrose", "tanstaaf")
			play(t, s, string(script))
		})
	}
}

func play(t *testing.T, s *pop3test.Server, script string) {
	p := dial(t, s)
	var batch []string
	for i, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
		command, isClient := strings.CutPrefix(line, "C: ")
		if isClient {
			batch = append(batch, command)
			continue
		}
		if len(batch) > 0 {
			p.send(batch...)
			batch = nil
		}
		want, isServer := strings.CutPrefix(line, "S: ")
		switch {
		case isServer:
			if got := p.line(); got != want {
				t.Fatalf("line %d: server sent %q, want %q", i+1, got, want)
			}
		case line == "end":
			p.wantEOF()
		case line == "connect":
			p.conn.Close()
			p = dial(t, s)
		case !strings.HasPrefix(line, "#"):
			t.Fatalf("line %d: %q is not part of a transcript", i+1, line)
		}
	}
}
