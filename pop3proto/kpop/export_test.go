package kpop

// Sendauth is the dialogue on a connection, without the ticket.
var Sendauth = sendauth
