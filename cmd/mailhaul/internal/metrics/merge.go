package metrics

import (
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// merge returns now, the counts of a process, on top of before. Counters and
// histograms are added up. Of gauges now's are right, and those it lacks stay
// as they were, if they are of one of the accounts.
func merge(before map[string]*dto.MetricFamily, now []*dto.MetricFamily, accounts []string) []*dto.MetricFamily {
	families := map[string]*dto.MetricFamily{}
	for _, f := range now {
		families[f.GetName()] = f
	}
	// A vector without a value is not gathered, but the file may have some.
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

// addCounts adds what was counted before. A histogram with other buckets is of
// another mailhaul and counts no more.
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

// finiteBounds returns the upper finiteBounds of the finite buckets, which are all that
// the text format and the registry agree about: +Inf only the former has.
func finiteBounds(h *dto.Histogram) []float64 {
	var all []float64
	for _, b := range h.GetBucket() {
		if u := b.GetUpperBound(); u <= 1e300 {
			all = append(all, u)
		}
	}
	return all
}

// labelKey returns the labels of a metric as one string.
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
