package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Figures are all that was measured on a machine.
type Figures struct {
	Machine  Machine            `json:"machine"`
	Outcomes map[string]Outcome `json:"outcomes"` // by scenario
}

// Outcome is what came of a scenario.
type Outcome struct {
	Date    string   `json:"date"`
	Runs    int      `json:"runs"`
	Octets  int64    `json:"octets"` // of all messages
	Results []Result `json:"results"`
}

// Result is what came of a contender in a scenario.
type Result struct {
	Contender         string  `json:"contender"`
	Peer              bool    `json:"peer"`
	Concurrent        bool    `json:"at_once"`
	ProcessPerAccount bool    `json:"many"`
	Runs              []usage `json:"runs"`
	Failure           string  `json:"failure,omitempty"`
	Traffic           traffic `json:"line"`
	Syncs             int     `json:"syncs"` // -1: not counted
}

func (r *Result) add(u usage) {
	r.Runs = append(r.Runs, u)
	if r.Failure == "" {
		r.Failure = u.Failure
	}
}

// median returns the median of something over the runs.
func (r *Result) median(of func(usage) float64) float64 {
	values := make([]float64, len(r.Runs))
	for i, u := range r.Runs {
		values[i] = of(u)
	}
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

func (r *Result) medianWall() float64 { return r.median(func(u usage) float64 { return u.Wall }) }

// peak is the peak of memory in MiB: the highest, since a bound is to hold
// always.
func (r *Result) peakMiB() float64 {
	most := int64(0)
	for _, u := range r.Runs {
		most = max(most, u.RSS)
	}
	return float64(most) / 1024
}

// find returns the result of a contender, if it has done its job.
func (o *Outcome) resultOf(name string) *Result {
	for i := range o.Results {
		if r := &o.Results[i]; r.Contender == name && r.Failure == "" && len(r.Runs) > 0 {
			return r
		}
	}
	return nil
}

// fastest returns the fastest peer that has done its job: of those who have all
// accounts open at once, or of the others.
func (o *Outcome) fastestPeer(atOnce bool) *Result {
	var best *Result
	for i := range o.Results {
		r := &o.Results[i]
		if r.Peer && r.Concurrent == atOnce && r.Failure == "" && len(r.Runs) > 0 && (best == nil || r.medianWall() < best.medianWall()) {
			best = r
		}
	}
	return best
}

// against returns the result that a target compares with.
func (f *Figures) baseline(o *Outcome, t target) *Result {
	switch t.against {
	case fastestSingle:
		return o.fastestPeer(false)
	case fastestConcurrent:
		return o.fastestPeer(true)
	case sameInScenarioE:
		e := f.Outcomes["e"]
		return e.resultOf(t.contender)
	default:
		return o.resultOf(t.against)
	}
}

// judge says in a line whether a target is met, and false if it cannot be told.
func (f *Figures) judge(o *Outcome, t target) (line string, known bool) {
	who := o.resultOf(t.contender)
	if who == nil {
		return "", false
	}
	verdict := func(is float64) string {
		if is <= t.bound {
			return "met"
		}
		return "**missed**"
	}
	if t.against == peakMemory {
		return fmt.Sprintf("%s: %.1f %s at most %g: %s", t.contender, who.peakMiB(), t.against, t.bound, verdict(who.peakMiB())), true
	}
	other := f.baseline(o, t)
	if other == nil {
		return "", false
	}
	ratio := who.medianWall() / other.medianWall()
	against := t.against
	if t.against == fastestSingle || t.against == fastestConcurrent {
		against += " (" + other.Contender + ")"
	}
	line = fmt.Sprintf("%s takes %.2f × as long as %s", t.contender, ratio, against)
	if t.bound != noBound {
		line += fmt.Sprintf("; at most %g: %s", t.bound, verdict(ratio))
	}
	return line, true
}

// readFigures returns what was measured before, on this machine with these
// programs; nothing if there is no such thing.
func readFigures(name string, m Machine) (Figures, error) {
	fresh := Figures{Machine: m, Outcomes: map[string]Outcome{}}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	} else if err != nil {
		return fresh, err
	}
	var f Figures
	if err := json.Unmarshal(text, &f); err != nil {
		return fresh, fmt.Errorf("%s: %w", name, err)
	}
	if f.Machine.ID() != m.ID() || f.Outcomes == nil {
		return fresh, nil
	}
	f.Machine = m
	return f, nil
}

func writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o600)
}
