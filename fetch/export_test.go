package fetch

// Settled is for the tests of plans.
var Settled = settled
