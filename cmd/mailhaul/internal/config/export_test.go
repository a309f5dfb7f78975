package config

import (
	"maps"
	"slices"
)

// Keys returns every key that a configuration can hold.
func Keys() []string {
	all := slices.Concat(sorted(topReaders), sorted(sinkReaders), sorted(accountReaders), sorted(oauthReaders), sorted(routeReaders), sorted(filterReaders))
	slices.Sort(all)
	return slices.Compact(all)
}

func sorted[T any](known keyReaders[T]) []string { return slices.Sorted(maps.Keys(known)) }

// Unshown returns the differences between the keys that the parser knows and the keys
// that are shown.
func Unshown() []string {
	var wrong []string
	compare := func(where string, known []string, shown []string) {
		for _, key := range known {
			if !slices.Contains(shown, key) {
				wrong = append(wrong, where+key+" is not shown")
			}
		}
		for _, key := range shown {
			if !slices.Contains(known, key) {
				wrong = append(wrong, where+key+" is shown and not known")
			}
		}
	}
	names := func(table []shownKey) (names []string) {
		for _, k := range table {
			names = append(names, k.key)
		}
		return names
	}
	// The defaults are shown with each account.
	compare("", sorted(topReaders), append(names(topShown), "defaults"))
	compare("account: ", sorted(accountReaders), names(accountShown))
	compare("filter: ", sorted(filterReaders), names(filterShown))
	compare("hook: ", sorted(hookReaders), names(hookShown))
	var ofSinks []string
	for _, k := range sinkKinds {
		ofSinks = append(append(ofSinks, k.key), k.options...)
	}
	compare("sink: ", sorted(sinkReaders), ofSinks)
	for key := range sinkDefaults {
		if sinkReaders[key] == nil {
			wrong = append(wrong, "sink: "+key+" has a default and is not known")
		}
	}
	return wrong
}
