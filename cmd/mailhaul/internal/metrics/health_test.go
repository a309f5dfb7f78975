package metrics_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// get returns the status and the body of a page.
func get(t *testing.T, s *metrics.Server, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + s.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func TestServer(t *testing.T) {
	now := at(0)
	h := metrics.NewHealth(func() time.Time { return now })
	m := metrics.New(build)
	m.AddProcess()
	m.SetAccounts([]string{"ada", "grace"})
	s, err := metrics.Listen(t.Context(), "127.0.0.1:0", m, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	health := func(code int, want string) {
		t.Helper()
		if got, body := get(t, s, "/healthz"); got != code || body != want {
			t.Errorf("%v: %d %s, want %d %s", now.Sub(at(0)), got, body, code, want)
		}
	}
	alive := func(code int, want string) {
		t.Helper()
		if got, body := get(t, s, "/livez"); got != code || body != want {
			t.Errorf("alive, %v: %d %s, want %d %s", now.Sub(at(0)), got, body, code, want)
		}
	}
	observe := func(e fetch.Event) { m.Observe(e); h.Observe(e) }
	every := map[string]time.Duration{"ada": time.Minute, "grace": time.Hour}
	h.SetAccounts(every, map[string]time.Time{"ada": at(-1_000_000)})

	// The last success before the start does not count, and with an interval of a
	// minute an account is not stale after three.
	health(200, `{"status":"ok","accounts":2,"stale":[]}`)
	now = at(1800)
	h.MarkAlive()
	health(200, `{"status":"ok","accounts":2,"stale":[]}`)
	now = at(1801)
	health(503, `{"status":"stale","accounts":2,"stale":[{"account":"ada","last_success":"2023-11-03T08:26:40Z","seconds":1801,"limit_seconds":1800}]}`)
	alive(200, `{"status":"ok"}`)

	// A landed message is progress, a failed poll is not.
	observe(fetch.Landed{Account: "ada"})
	health(200, `{"status":"ok","accounts":2,"stale":[]}`)
	now = at(3 * 3600)
	h.MarkAlive()
	observe(poll("ada", 3*3600, fetch.Summary{}))
	observe(poll("grace", 3*3600, fetch.Summary{Class: fetch.ClassRetry}))
	health(200, `{"status":"ok","accounts":2,"stale":[]}`)
	now = at(3*3600 + 1)
	health(503, `{"status":"stale","accounts":2,"stale":[{"account":"grace","last_success":null,"seconds":10801,"limit_seconds":10800}]}`)

	// SetAccounts keeps what is known of accounts, and drops those that are gone.
	delete(every, "grace")
	every["new"] = time.Minute
	h.SetAccounts(every, nil)
	health(200, `{"status":"ok","accounts":2,"stale":[]}`)

	// A scheduler that hangs is not alive, even if no account is stale.
	if !h.Alive() {
		t.Error("not alive a second after MarkAlive")
	}
	now = at(3*3600 + 60)
	health(503, `{"status":"hung","accounts":2,"stale":[]}`)
	if h.Alive() {
		t.Error("alive a minute after the last MarkAlive")
	}
	alive(503, `{"status":"hung"}`)

	m.SetAccounts([]string{"ada", "new"})
	observe(poll("grace", 3*3600, fetch.Summary{})) // of a poll that was under way
	code, text := get(t, s, "/metrics")
	families := parse(t, text+"\n")
	for _, name := range []string{"mailhaul_polls_total", "mailhaul_build_info", "go_goroutines", "process_start_time_seconds"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if code != 200 || !strings.Contains(text, `mailhaul_polls_total{account="ada",result="fine"} 1`) || strings.Contains(text, "grace") {
		t.Errorf("%d:\n%s", code, text)
	}
	if code, _ := get(t, s, "/"); code != 404 {
		t.Errorf("/: %d", code)
	}
	if _, err := metrics.Listen(t.Context(), s.Addr(), m, h); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second server at the same address: %v", err)
	}
}

// A login delay that is longer than the interval counts as the interval.
func TestHealthWithLoginDelay(t *testing.T) {
	now := at(0)
	h := metrics.NewHealth(func() time.Time { return now })
	s, err := metrics.Listen(t.Context(), "127.0.0.1:0", metrics.New(build), h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h.SetAccounts(map[string]time.Duration{"ada": time.Minute}, nil)
	h.Observe(poll("ada", 0, fetch.Summary{Schedule: state.Schedule{LoginDelay: 2 * 3600}}))
	h.Observe(poll("ada", 0, fetch.Summary{Skipped: true, Err: errors.New("held")}))
	for second, want := range map[int]string{
		6 * 3600:   `{"status":"ok","accounts":1,"stale":[]}`,
		6*3600 + 1: `{"status":"stale","accounts":1,"stale":[{"account":"ada","last_success":"2023-11-14T22:13:20Z","seconds":21601,"limit_seconds":21600}]}`,
	} {
		now = at(second)
		h.MarkAlive()
		if _, body := get(t, s, "/healthz"); body != want {
			t.Errorf("%d: %s, want %s", second, body, want)
		}
	}
}
