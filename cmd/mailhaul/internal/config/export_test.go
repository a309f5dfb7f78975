package config

import (
	"maps"
	"slices"
)

// Parse is what Load does with the bytes of a file that only its owner reads.
func Parse(path string, data []byte) (*Config, error) { return parse(path, data, false) }

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
