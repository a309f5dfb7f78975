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
