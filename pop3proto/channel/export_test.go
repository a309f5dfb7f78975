package channel

// ParseSession reads a file of Sessions.
var ParseSession = parseSession
