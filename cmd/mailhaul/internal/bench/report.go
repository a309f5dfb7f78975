package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

//go:embed report.md.tmpl
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// section is a scenario in the report.
type section struct {
	Name, Title, Date string
	Table             string
	Notes             []string // targets met or missed, and failures
}

// sections are the scenarios that have figures, in their order.
func (f *Figures) sections() []section {
	var all []section
	for _, sc := range scenarios {
		o, ok := f.Outcomes[sc.name]
		if !ok {
			continue
		}
		s := section{Name: sc.name, Title: fmt.Sprintf("%s (%s)", sc.title, megabytes(o.Octets)), Date: o.Date, Table: o.table(sc)}
		for _, t := range sc.targets {
			if line, known := f.judge(&o, t); known {
				s.Notes = append(s.Notes, line)
			}
		}
		for _, r := range o.Results {
			if r.Failure != "" {
				s.Notes = append(s.Notes, r.Contender+" has failed: "+r.Failure)
			}
		}
		all = append(all, s)
	}
	return all
}

// report is the whole document, in Markdown.
func (f *Figures) report() (string, error) {
	var b strings.Builder
	err := reportTemplate.Execute(&b, map[string]any{"Machine": f.Machine, "Sections": f.sections()})
	return b.String(), err
}

func megabytes(octets int64) string { return fmt.Sprintf("%.1f MB", float64(octets)/1e6) }

// table is a table in Markdown, its columns aligned for those who read it as
// text.
func (o *Outcome) table(sc scenario) string {
	rows := [][]string{{"", "time", "min – max", "× drain", "CPU", "memory", "turns", "connections", "syncs"}}
	base := o.resultOf(drainName)
	if base == nil {
		base = o.resultOf(drain32)
	}
	for i := range o.Results {
		r := &o.Results[i]
		name := r.Contender
		if r.Failure != "" || len(r.Runs) == 0 {
			rows = append(rows, []string{name, "FAILED", "", "", "", "", "", "", ""})
			continue
		}
		if len(r.Runs) < o.Runs {
			name += " ¹"
		}
		ratio, syncs := "", "n/a"
		if base != nil {
			ratio = fmt.Sprintf("%.2f", r.medianWall()/base.medianWall())
		}
		if r.Syncs >= 0 {
			syncs = fmt.Sprint(r.Syncs)
			if !sc.keep && r.Syncs > 0 {
				syncs = fmt.Sprintf("%.2f per message", float64(r.Syncs)/float64(sc.accounts*sc.messages))
			}
		}
		least := slices.MinFunc(r.Runs, byWall).Wall
		most := slices.MaxFunc(r.Runs, byWall).Wall
		memory := fmt.Sprintf("%.1f MiB", r.peakMiB())
		if r.ProcessPerAccount {
			memory = fmt.Sprintf("%d × %s", sc.accounts, memory)
		}
		rows = append(rows, []string{
			name, seconds(r.medianWall()), seconds(least) + " – " + seconds(most), ratio,
			seconds(r.median(func(u usage) float64 { return u.CPU })), memory,
			fmt.Sprint(r.Traffic.Turns), fmt.Sprint(r.Traffic.Connections), syncs,
		})
	}
	return markdown(rows)
}

func byWall(a, b usage) int {
	if a.Wall < b.Wall {
		return -1
	}
	return 1
}

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.3f s", s)
	}
	return fmt.Sprintf("%.1f s", s)
}

func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i > 0 { // figures stand to the right
				cell, pad = pad+cell, ""
			}
			fmt.Fprintf(&b, "| %s%s ", cell, pad)
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				fmt.Fprintf(&b, "|%s", strings.Repeat("-", width+2))
			} else {
				fmt.Fprintf(&b, "|%s:", strings.Repeat("-", width+1))
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}
