package durable

// DiskOf and SyncDisk are those of this system.
var DiskOf, SyncDisk = wholeSyncID, syncWholeFS

// Counter returns a counter of /proc/vmstat.
var Counter = vmstatPages
