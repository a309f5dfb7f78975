package config

import (
	"maps"
	"slices"
)

// Keys returns every key that a configuration can hold.
func Keys() []string {
	all := map[string]bool{}
	for k := range topKeys {
		all[k] = true
	}
	for k := range sinkKeys {
		all[k] = true
	}
	for k := range accountKeys {
		all[k] = true
	}
	for k := range oauthKeys {
		all[k] = true
	}
	for k := range routeKeys {
		all[k] = true
	}
	for k := range filterKeys {
		all[k] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// Unshown returns the keys that the parser knows and that are never shown, or
// the other way round.
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
	// The accounts show what the defaults say.
	compare("", slices.Sorted(maps.Keys(topKeys)), append(names(topShown), "defaults"))
	compare("account: ", slices.Sorted(maps.Keys(accountKeys)), names(accountShown))
	compare("filter: ", slices.Sorted(maps.Keys(filterKeys)), names(filterShown))
	compare("hook: ", slices.Sorted(maps.Keys(hookKeys)), names(hookShown))
	var ofSinks []string
	for _, k := range kinds {
		ofSinks = append(append(ofSinks, k.key), k.options...)
	}
	compare("sink: ", slices.Sorted(maps.Keys(sinkKeys)), ofSinks)
	for key := range sinkUsual {
		if sinkKeys[key] == nil {
			wrong = append(wrong, "sink: "+key+" has a default and is not known")
		}
	}
	return wrong
}
