package fetch

import "testing"

// RestUntil is for the tests of plans.
var RestUntil = restUntil

// FormerSums has contents hashed as earlier versions did, until end is called.
func FormerSums(t *testing.T) (end func()) {
	today := newContentHash
	newContentHash = newFormerHash
	end = func() { newContentHash = today }
	t.Cleanup(end)
	return end
}
