package fetch

// Class says whose turn it is after an error.
type Class int

const (
	// ClassFine means that nothing failed.
	ClassFine Class = iota
	// ClassRefused means that some messages stay on the server; the rest
	// went through.
	ClassRefused
	// ClassRetry means that the same may work at the next poll.
	ClassRetry
	// ClassOperator means that it takes a person: a password, a certificate,
	// a path.
	ClassOperator
	// ClassMachine means that this machine is in trouble: a full disk, a
	// broken state database. No poll should go on.
	ClassMachine
)

// String returns the class in a word: "fine", "refused", "retry",
// "operator", "machine".
func (c Class) String() string {
	switch c {
	case ClassFine:
		return "fine"
	case ClassRefused:
		return "refused"
	case ClassRetry:
		return "retry"
	case ClassOperator:
		return "operator"
	default:
		return "machine"
	}
}
