package durable

// DiskOf and SyncDisk are those of this system.
var DiskOf, SyncDisk = diskOf, syncDisk

// MaxDirty is above which others' writes are too much to wait for.
const MaxDirty = maxDirty

// Counter returns a counter of /proc/vmstat.
var Counter = counter
