package durable

// DiskOf and SyncDisk are those of this system.
var DiskOf, SyncDisk = diskOf, syncDisk

// Counter returns a counter of /proc/vmstat.
var Counter = counter
