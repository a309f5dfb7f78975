// Package fetch polls POP3 accounts: it compares what a server lists with what is
// remembered, streams each new message into a sink, and deletes from the server only what
// the sink has durably. It reports by typed events and errors, and leaves it to its caller
// to show them to a person.
//
// An [Account] is one maildrop with its sinks. [Account.Poll] polls it once, [Once] and
// [Run] poll many, side by side. [Account.Check], [Account.Look] and [Account.Adopt] look at
// a maildrop without fetching anything. All share [Options], which name what is remembered
// ([State]) and who gets the events ([Observer]).
//
// # The life of a poll
//
//  1. The scheduler finds the account due, and a slot for it (scheduler_run.go,
//     scheduler_task.go, scheduler_host.go; scheduler.go for Once).
//  2. The poll takes the account's lease and asks the sinks about promises that a crash left
//     open (poll.go, settle.go).
//  3. A visit runs sessions, one connection each, until nothing is left to fetch (visit.go).
//  4. A session connects, logs in (dial.go, auth.go, choice.go, kpop.go, knownserver.go) and
//     lists the maildrop (session.go, listing.go). If the listing is that of the last poll, nothing
//     else is to do (rest.go).
//  5. [MakePlan] compares the listing with the rows, and says what to fetch, to compare, to
//     delete and to keep (plan.go, planner.go), and in which order (attempts.go). Messages
//     without a unique-id, or with one that may be another's, are identified by their headers
//     (identify.go, doubt.go).
//  6. Messages that may have landed before are downloaded and compared (compare.go). New ones
//     are downloaded (transfer.go, body.go, sum.go), staged in batches (compose.go, stage.go,
//     batch.go; route.go and landings.go say in which sinks), and committed in another
//     goroutine while the next batch comes in (commit.go, which says in which order;
//     sinkcommit.go). What is not delivered is refused or put into quarantine (refuse.go).
//  7. What landed and is due is deleted at QUIT (finish.go).
//  8. The result and the time of the next poll are recorded (poll.go, backoff.go).
//
// A look (check.go, look.go, adopt.go), and a dry run, make only steps 4 and 5, and change
// nothing on the server (outlook.go).
//
// # Words
//
//   - A row ([state.Row]) is what is remembered of a message. Its key is the unique-id, or a
//     digest of the header or the content if the message has no usable unique-id.
//   - A sink makes a promise when it has a message durably, and is about to make it visible.
//     The promise is open until it is known whether the message has landed, that is, whether
//     it is visible. To settle an open promise is to ask the sink.
//   - A message is refused if the server does not give it, or a sink does not take it. It is
//     tried again after a pause. It is suspect if a sink may have failed because of it.
//   - A message is adopted if a person wants it left on the server: it is remembered, and never
//     fetched or deleted.
//   - A message is torn if the connection ended while it was received.
//   - A row is in doubt if the server may have given its unique-id to another message.
//   - To drain is to end soon but cleanly: to fetch nothing more, and to deliver and delete
//     what is under way.
//
// # What may go wrong
//
// Replies to pipelined commands could get out of step, so that messages change places:
// outofstep.go says how that is found out, and what happens then. connectionlost.go handles
// a connection that dies over a message, sinkbackoff.go a sink that does not answer (outage.go),
// maildrop.go an account that gets another maildrop, and budget.go a poll that takes too long.
// classify.go says who has to act after
// an error.
package fetch
