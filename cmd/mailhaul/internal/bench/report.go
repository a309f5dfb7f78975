package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"
)

//go:embed report.md.tmpl
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// section is a scenario in the report.
type section struct {
	Name, Title, Date string
	Table             string
	Notes             []string // the targets, and whether they are met, and the failures
}

// sections returns a section for each scenario that has figures.
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

// report returns the report, in Markdown.
func (f *Figures) report() (string, error) {
	var b strings.Builder
	err := reportTemplate.Execute(&b, map[string]any{"Machine": f.Machine, "Sections": f.sections()})
	return b.String(), err
}

// print writes the section of a scenario.
func (f *Figures) print(out io.Writer, name string) {
	for _, s := range f.sections() {
		if s.Name != name {
			continue
		}
		fmt.Fprintf(out, "\n%s  %s\n\n%s\n", s.Name, s.Title, s.Table)
		for _, note := range s.Notes {
			fmt.Fprintln(out, note)
		}
	}
}

// table returns the results of a scenario as a table in Markdown.
func (o *Outcome) table(sc scenario) string {
	rows := [][]string{{"", "time", "min – max", "× drain", "CPU", "memory", "turns", "connections", "syncs"}}
	drain := o.resultOf(drainName)
	if drain == nil {
		drain = o.resultOf(drain32)
	}
	for i := range o.Results {
		rows = append(rows, o.tableRow(sc, &o.Results[i], drain))
	}
	return markdownTable(rows)
}

// tableRow returns the cells of a result. drain is the drain's result; it may be nil.
func (o *Outcome) tableRow(sc scenario, r, drain *Result) []string {
	name := r.Contender
	if r.Failure != "" || len(r.Runs) == 0 {
		return []string{name, "FAILED", "", "", "", "", "", "", ""}
	}
	if len(r.Runs) < o.Runs {
		name += " ¹"
	}
	ratio := ""
	if drain != nil {
		ratio = fmt.Sprintf("%.2f", r.medianWall()/drain.medianWall())
	}
	shortest := slices.MinFunc(r.Runs, compareWall).Wall
	longest := slices.MaxFunc(r.Runs, compareWall).Wall
	memory := fmt.Sprintf("%.1f MiB", r.peakMiB())
	if r.ProcessPerAccount {
		memory = fmt.Sprintf("%d × %s", sc.accounts, memory)
	}
	syncs := "n/a"
	switch {
	case r.Syncs < 0:
	case r.Syncs == 0 || sc.keep:
		syncs = fmt.Sprint(r.Syncs)
	default:
		syncs = fmt.Sprintf("%.2f per message", float64(r.Syncs)/float64(sc.accounts*sc.messages))
	}
	return []string{
		name, seconds(r.medianWall()), seconds(shortest) + " – " + seconds(longest), ratio,
		seconds(r.median(func(u usage) float64 { return u.CPU })), memory,
		fmt.Sprint(r.Traffic.Turns), fmt.Sprint(r.Traffic.Connections), syncs,
	}
}

func compareWall(a, b usage) int { return cmp.Compare(a.Wall, b.Wall) }

func megabytes(octets int64) string { return fmt.Sprintf("%.1f MB", float64(octets)/1e6) }

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.3f s", s)
	}
	return fmt.Sprintf("%.1f s", s)
}

// markdownTable writes a table whose first row is the head. Its columns are aligned for
// those who read it as text: the first to the left, the others to the right.
func markdownTable(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(&b, "| %s%s ", cell, padding)
			} else {
				fmt.Fprintf(&b, "| %s%s ", padding, cell)
			}
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
