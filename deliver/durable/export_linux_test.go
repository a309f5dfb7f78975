package durable

// For tests.
var (
	SyncfsID    = syncfsID
	CallSyncfs  = callSyncfs
	VmstatPages = vmstatPages
)
