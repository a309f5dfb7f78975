package fetch

import "testing"

// RestUntil lets the tests of plans call restUntil.
var RestUntil = restUntil

// FormerSums has the contents of messages hashed as earlier versions did, until end is
// called.
func FormerSums(t *testing.T) (end func()) {
	today := newContentHash
	newContentHash = newFormerHash
	end = func() { newContentHash = today }
	t.Cleanup(end)
	return end
}
