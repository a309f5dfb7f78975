package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Figures holds everything that was measured on a machine.
type Figures struct {
	Machine  Machine            `json:"machine"`
	Outcomes map[string]Outcome `json:"outcomes"` // by scenario
}

// Outcome holds the results of a scenario.
type Outcome struct {
	Date    string   `json:"date"`
	Runs    int      `json:"runs"`   // of each contender, unless it failed or was too slow
	Octets  int64    `json:"octets"` // of all messages
	Results []Result `json:"results"`
}

// Result is the result of a contender in a scenario.
type Result struct {
	Contender         string  `json:"contender"`
	Peer              bool    `json:"peer"`
	Concurrent        bool    `json:"at_once"`
	ProcessPerAccount bool    `json:"many"`
	Runs              []usage `json:"runs"`
	Failure           string  `json:"failure,omitempty"` // the first one
	Traffic           traffic `json:"line"`              // of one run, in which it was counted
	Syncs             int     `json:"syncs"`             // of the same run; -1 if strace is not installed
}

// add adds a run.
func (r *Result) add(u usage) {
	r.Runs = append(r.Runs, u)
	if r.Failure == "" {
		r.Failure = u.Failure
	}
}

// median returns the median of a property of the runs, 0 if there are none.
func (r *Result) median(property func(usage) float64) float64 {
	values := make([]float64, len(r.Runs))
	for i, u := range r.Runs {
		values[i] = property(u)
	}
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

func (r *Result) medianWall() float64 { return r.median(func(u usage) float64 { return u.Wall }) }

// peakMiB returns the highest peak memory of all runs, in MiB.
func (r *Result) peakMiB() float64 {
	most := int64(0)
	for _, u := range r.Runs {
		most = max(most, u.RSS)
	}
	return float64(most) / 1024
}

// resultOf returns the result of a contender, nil if it has none or has failed.
func (o *Outcome) resultOf(name string) *Result {
	for i := range o.Results {
		if r := &o.Results[i]; r.Contender == name && r.Failure == "" && len(r.Runs) > 0 {
			return r
		}
	}
	return nil
}

// fastestPeer returns the result of the fastest peer, of those that are concurrent or of
// the others. It returns nil if there is none that has not failed.
func (o *Outcome) fastestPeer(concurrent bool) *Result {
	var best *Result
	for i := range o.Results {
		r := &o.Results[i]
		if r.Peer && r.Concurrent == concurrent && r.Failure == "" && len(r.Runs) > 0 && (best == nil || r.medianWall() < best.medianWall()) {
			best = r
		}
	}
	return best
}

// baseline returns the result that a target compares with, nil if there is none.
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

// judge returns a line that says whether a target is met. It returns false if a result is
// missing.
func (f *Figures) judge(o *Outcome, t target) (line string, known bool) {
	result := o.resultOf(t.contender)
	if result == nil {
		return "", false
	}
	verdict := func(x float64) string {
		if x <= t.bound {
			return "met"
		}
		return "**missed**"
	}
	if t.against == peakMemory {
		return fmt.Sprintf("%s: %.1f %s at most %g: %s", t.contender, result.peakMiB(), t.against, t.bound, verdict(result.peakMiB())), true
	}
	other := f.baseline(o, t)
	if other == nil {
		return "", false
	}
	ratio := result.medianWall() / other.medianWall()
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

// readFigures reads the figures of earlier scenarios from a file. They are empty if there
// is no such file, or if it is from another machine.
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
