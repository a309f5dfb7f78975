package kpop

// Sendauth is the protocol after a ticket was obtained.
var Sendauth = sendauth
