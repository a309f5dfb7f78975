package channel

// ParseSession parses the content of a file of Sessions.
var ParseSession = parseSession
