package state

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"
)

// writer joins the writes of many accounts into few transactions, since each
// commit costs an fsync. One goroutine takes all queued changes, runs them in one
// transaction, commits it, and answers each.
type writer struct {
	path string
	db   *sql.DB
	tx   *tx
	done chan struct{} // closed when run has ended
	// syncFailed receives the failed fsync after which nothing is written.
	syncFailed chan error

	mu      sync.Mutex
	changed sync.Cond // queue or closed has changed
	queue   []*change
	closed  bool
}

// change is one write in the queue.
type change struct {
	op      string
	run     func(*tx) error
	claimed atomic.Bool
	answer  chan error
}

// claim reports whether the caller is the first to claim the change: the writer
// in order to run it, or whoever queued it in order to drop it.
func (c *change) claim() bool { return c.claimed.CompareAndSwap(false, true) }

func newWriter(path string, db *sql.DB, conn *sql.Conn) *writer {
	w := &writer{path: path, db: db, done: make(chan struct{}), syncFailed: make(chan error, 1),
		tx: &tx{conn: conn, stmts: make(map[string]*sql.Stmt)}}
	w.changed.L = &w.mu
	return w
}

// change runs f in a transaction and returns once that is durable. If f returns
// an error, its writes are undone. If ctx ends before f has begun, f never runs.
func (s *Store) change(ctx context.Context, op string, f func(*tx) error) error {
	if s.write == nil {
		return ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{op: op, run: f, answer: make(chan error, 1)}
	if err := s.write.enqueue(c); err != nil {
		return err
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		if c.claim() {
			return ctx.Err()
		}
		return <-c.answer
	}
}

func (w *writer) enqueue(c *change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.queue = append(w.queue, c)
	w.changed.Signal()
	return nil
}

// takeQueue empties the queue and returns what was in it.
func (w *writer) takeQueue() []*change {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}

// waitForChange returns true once the queue holds a change, and false once it is
// empty and closed.
func (w *writer) waitForChange() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && !w.closed {
		w.changed.Wait()
	}
	return len(w.queue) > 0
}

func (w *writer) run() {
	defer close(w.done)
	var broken error
	for w.waitForChange() {
		if broken != nil {
			w.answer(w.takeQueue(), broken)
			continue
		}
		changes, err := w.commit()
		// A failed fsync is never retried: the kernel may have dropped the
		// pages, and would report success the next time.
		if isSyncFailure(err) {
			broken = err
			w.syncFailed <- wrap(w.path, "write", err)
		}
		w.answer(changes, err)
	}
}

func (w *writer) answer(changes []*change, err error) {
	for _, c := range changes {
		c.answer <- wrap(w.path, c.op, err)
	}
}

// commit runs all queued changes in one transaction, and returns those whose
// outcome is that of the transaction. A change that fails is undone and answered
// by itself.
func (w *writer) commit() ([]*change, error) {
	if err := w.tx.exec("BEGIN IMMEDIATE"); err != nil {
		return w.takeQueue(), err
	}
	// BEGIN may have waited for another process while more changes queued up.
	queue := w.takeQueue()
	var begun []*change
	for i, c := range queue {
		if !c.claim() {
			continue
		}
		failed, err := w.tx.runInSavepoint(c.run, len(queue) == 1)
		if failed != nil {
			c.answer <- wrap(w.path, c.op, failed)
		} else {
			begun = append(begun, c)
		}
		if err != nil {
			w.tx.exec("ROLLBACK")
			return append(begun, queue[i+1:]...), err
		}
	}
	if err := w.tx.exec("COMMIT"); err != nil {
		w.tx.exec("ROLLBACK") // after some errors SQLite has done so already
		return begun, err
	}
	return begun, nil
}

func isSyncFailure(err error) bool {
	code := resultCode(err)
	return code == sqlite3.SQLITE_IOERR_FSYNC || code == sqlite3.SQLITE_IOERR_DIR_FSYNC
}

// close waits for the queued changes and closes the database.
func (w *writer) close() error {
	w.mu.Lock()
	wasClosed := w.closed
	w.closed = true
	w.changed.Signal()
	w.mu.Unlock()
	<-w.done
	if wasClosed {
		return nil
	}
	return errors.Join(w.tx.close(), w.db.Close())
}

// tx is the writer's connection, and the transaction that is open on it.
type tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by their text
}

// runInSavepoint runs f, and undoes its writes if it returns an error, which
// becomes failed. An err means that the whole transaction is lost. If f is alone
// in its transaction no savepoint is needed, and its error is both.
func (t *tx) runInSavepoint(f func(*tx) error, alone bool) (failed, err error) {
	if alone {
		failed = f(t)
		return failed, failed
	}
	if err := t.exec("SAVEPOINT change"); err != nil {
		return nil, err
	}
	if failed = f(t); failed != nil {
		// After a full disk or an I/O error, SQLite may have rolled back the
		// whole transaction, and with it the savepoint.
		if t.exec("ROLLBACK TO change") != nil {
			return nil, failed
		}
	}
	return failed, t.exec("RELEASE change")
}

func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if st := t.stmts[query]; st != nil {
		return st, nil
	}
	st, err := t.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.stmts[query] = st
	}
	return st, err
}

func (t *tx) exec(query string, args ...any) error {
	_, err := t.update(query, args...)
	return err
}

// update is like exec, and returns how many rows changed.
func (t *tx) update(query string, args ...any) (int64, error) {
	st, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	res, err := st.Exec(args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// queryValue reads a single value into dst.
func (t *tx) queryValue(dst any, query string, args ...any) error {
	st, err := t.prepare(query)
	if err != nil {
		return err
	}
	return st.QueryRow(args...).Scan(dst)
}

// updateReturningSizes runs an UPDATE that ends in RETURNING size. It returns how
// many rows changed, and the sum of their sizes.
func (t *tx) updateReturningSizes(query string, args ...any) (n int, octets int64, err error) {
	st, err := t.prepare(query)
	if err != nil {
		return 0, 0, err
	}
	rows, err := st.Query(args...)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var size int64
		if err := rows.Scan(&size); err != nil {
			return 0, 0, err
		}
		n++
		octets += size
	}
	return n, octets, rows.Err()
}

func (t *tx) close() error {
	var errs []error
	for _, st := range t.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, t.conn.Close())...)
}
