package metrics

import (
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// merge adds now, the counts of a process, to before, those of the file. It sums up
// counters and histograms, and takes gauges from now. What now lacks stays as it was, if
// it belongs to one of the accounts.
func merge(before map[string]*dto.MetricFamily, now []*dto.MetricFamily, accounts []string) []*dto.MetricFamily {
	families := map[string]*dto.MetricFamily{}
	for _, f := range now {
		families[f.GetName()] = f
	}
	// Gather leaves out vectors without a value, but the file may hold some.
	for name, old := range before {
		if families[name] == nil && strings.HasPrefix(name, prefix) {
			families[name] = &dto.MetricFamily{Name: old.Name, Help: old.Help, Type: old.Type}
		}
	}
	for name, f := range families {
		old := before[name]
		if old.GetType() != f.GetType() {
			continue
		}
		metrics := map[string]*dto.Metric{}
		for _, m := range f.Metric {
			metrics[labelKey(m)] = m
		}
		for _, m := range old.GetMetric() {
			if same := metrics[labelKey(m)]; same != nil {
				addCounts(same, m)
			} else if account := labelValue(m, "account"); account != "" && slices.Contains(accounts, account) {
				f.Metric = append(f.Metric, m)
			}
		}
		slices.SortFunc(f.Metric, func(a, b *dto.Metric) int { return strings.Compare(labelKey(a), labelKey(b)) })
	}
	var all []*dto.MetricFamily
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if len(families[name].Metric) > 0 {
			all = append(all, families[name])
		}
	}
	return all
}

const prefix = "mailhaul_"

// addCounts adds the counts of before to m, but not of histograms with other buckets,
// which another version of mailhaul has written.
func addCounts(m, before *dto.Metric) {
	if c := m.GetCounter(); c != nil {
		*c.Value += before.GetCounter().GetValue()
	}
	h, old := m.GetHistogram(), before.GetHistogram()
	if h == nil || !slices.Equal(finiteBounds(h), finiteBounds(old)) {
		return
	}
	*h.SampleCount += old.GetSampleCount()
	*h.SampleSum += old.GetSampleSum()
	for i, b := range h.Bucket {
		*b.CumulativeCount += old.Bucket[i].GetCumulativeCount()
	}
}

// finiteBounds returns the upper bounds of the finite buckets. Only the text format lists
// the bucket of +Inf; the registry does not.
func finiteBounds(h *dto.Histogram) []float64 {
	var all []float64
	for _, b := range h.GetBucket() {
		if u := b.GetUpperBound(); u <= 1e300 {
			all = append(all, u)
		}
	}
	return all
}

// labelKey returns a string that identifies the labels of a metric.
func labelKey(m *dto.Metric) string {
	var all []string
	for _, l := range m.GetLabel() {
		all = append(all, l.GetName()+"\x00"+l.GetValue())
	}
	slices.Sort(all)
	return strings.Join(all, "\x01")
}

func labelValue(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
