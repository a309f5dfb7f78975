package fetch

// AtRest is for the tests of plans.
var AtRest = atRest
