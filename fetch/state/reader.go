package state

import (
	"context"
	"database/sql"
	"sync"
)

// reader is a pool of connections that only read. It prepares each query once,
// since parsing one takes longer than reading an account with few messages.
type reader struct {
	*sql.DB

	mu    sync.Mutex
	stmts map[string]*sql.Stmt // by query
}

func (r *reader) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st := r.stmts[query]; st != nil {
		return st, nil
	}
	st, err := r.DB.PrepareContext(ctx, query)
	if err == nil {
		r.stmts[query] = st
	}
	return st, err
}

// QueryContext is like that of sql.DB.
func (r *reader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := r.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// QueryRowContext is like that of sql.DB.
func (r *reader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	st, err := r.prepare(ctx, query)
	if err != nil {
		return r.DB.QueryRowContext(ctx, query, args...) // fails as well, and its Row carries the error
	}
	return st.QueryRowContext(ctx, args...)
}
