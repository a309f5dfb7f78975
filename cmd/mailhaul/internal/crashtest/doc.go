// Package crashtest runs the real program against a server in the process of the test,
// kills it at chosen system calls and at random moments, fills its disk, cuts the power,
// and measures its memory. It holds tests only. docs/reliability.md says what they show.
//
//   - program_test.go: a run of the program; trace_test.go and calls_test.go trace it, to
//     kill it at a system call or to have a call fail
//   - world_test.go, reader_test.go: the server, the user's files, and what the user sees
//   - crash_test.go, kill_test.go: kills, and what must hold after them
//   - terminate_test.go: the end of a daemon by SIGTERM
//   - synced_test.go: what must be synced before the server deletes
//   - disk_test.go, ext4_test.go: disks that are full, fail, or lose their power
//   - memory_test.go, soak_test.go: memory, and a daemon that runs for long
package crashtest
