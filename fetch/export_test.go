package fetch

import "testing"

// AtRest is for the tests of plans.
var AtRest = atRest

// FormerSums has contents summed as earlier versions did, until end is called.
func FormerSums(t *testing.T) (end func()) {
	today := newContent
	newContent = newFormer
	end = func() { newContent = today }
	t.Cleanup(end)
	return end
}
