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
// commit costs an fsync. One goroutine takes all that has queued up, runs it
// in one transaction, commits, and answers.
type writer struct {
	path string
	db   *sql.DB
	tx   *tx
	done chan struct{} // closed when run has ended
	// syncFailed gets the error after which nothing is written any more.
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
	claimed atomic.Bool // by the writer, to be run; or by its caller, to be dropped
	answer  chan error
}

func newWriter(path string, db *sql.DB, conn *sql.Conn) *writer {
	w := &writer{path: path, db: db, done: make(chan struct{}), syncFailed: make(chan error, 1),
		tx: &tx{conn: conn, stmts: make(map[string]*sql.Stmt)}}
	w.changed.L = &w.mu
	return w
}

// change runs f in a transaction and returns once it is durable. If f returns
// an error nothing of it remains. A ctx that ends before f was begun drops it.
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
		if c.claimed.CompareAndSwap(false, true) {
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

// takeQueue returns what has queued up.
func (w *writer) takeQueue() []*change {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}

// waitForChange returns true when something is queued, false when that will never be
// again.
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
		var changes []*change
		err := broken
		if err == nil {
			changes, err = w.commit()
		} else {
			changes = w.takeQueue()
		}
		// A failed fsync is never tried again: the kernel may have dropped
		// the pages and call the next one a success. Open starts anew.
		if broken == nil && isSyncFailure(err) {
			broken = err
			w.syncFailed <- wrap(w.path, "write", err)
		}
		for _, c := range changes {
			c.answer <- wrap(w.path, c.op, err)
		}
	}
}

// commit runs all queued changes in one transaction and returns those that
// share its fate. One that fails alone is undone and answered alone.
func (w *writer) commit() ([]*change, error) {
	if err := w.tx.exec("BEGIN IMMEDIATE"); err != nil {
		return w.takeQueue(), err
	}
	// Taken now, since BEGIN may have waited for another process.
	var begun []*change
	taken := w.takeQueue()
	for i, c := range taken {
		if !c.claimed.CompareAndSwap(false, true) {
			continue
		}
		failed, err := w.tx.runInSavepoint(c.run, len(taken) == 1)
		if failed != nil {
			c.answer <- wrap(w.path, c.op, failed)
		} else {
			begun = append(begun, c)
		}
		if err != nil {
			w.tx.exec("ROLLBACK")
			return append(begun, taken[i+1:]...), err
		}
	}
	if err := w.tx.exec("COMMIT"); err != nil {
		w.tx.exec("ROLLBACK") // SQLite has done it already after some errors
		return begun, err
	}
	return begun, nil
}

func isSyncFailure(err error) bool {
	code := resultCode(err)
	return code == sqlite3.SQLITE_IOERR_FSYNC || code == sqlite3.SQLITE_IOERR_DIR_FSYNC
}

// close runs what is queued and closes the database.
func (w *writer) close() error {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	w.changed.Signal()
	w.mu.Unlock()
	<-w.done
	if again {
		return nil
	}
	return errors.Join(w.tx.close(), w.db.Close())
}

// tx is the open transaction of the writer's connection.
type tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by their text
}

// runInSavepoint runs f within a savepoint, unless it is alone in its transaction. failed
// is f's error, and f is undone. err means that the transaction as a whole is
// lost.
func (t *tx) runInSavepoint(f func(*tx) error, alone bool) (failed, err error) {
	if alone {
		failed = f(t)
		return failed, failed
	}
	if err := t.exec("SAVEPOINT change"); err != nil {
		return nil, err
	}
	if failed = f(t); failed != nil {
		// After a full disk or an I/O error SQLite may have rolled back the
		// whole transaction, and the savepoint is gone.
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

// update is exec that returns how many rows were changed.
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

// queryValue reads one value.
func (t *tx) queryValue(dst any, query string, args ...any) error {
	st, err := t.prepare(query)
	if err != nil {
		return err
	}
	return st.QueryRow(args...).Scan(dst)
}

// updateReturningSizes runs a query that returns updateReturningSizes, and returns how many and their sum.
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
