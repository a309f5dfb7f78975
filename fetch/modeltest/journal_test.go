package modeltest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// ledger is the contents of a journal: the part of package state that polls of one account
// with one sink use.
type ledger struct {
	rows map[string]state.Row
	open []state.Promise
	kept map[string]bool // landings so far, which may be recorded again
	rest state.Rest      // ended by any change of the rows
	// deleting is the time at which the rows were Deleted whose deletion is in doubt, or 0.
	deleting int64
}

func (l ledger) clone() ledger {
	return ledger{maps.Clone(l.rows), slices.Clone(l.open), maps.Clone(l.kept), l.rest, l.deleting}
}

// String tells two ledgers apart.
func (l ledger) String() string {
	var b strings.Builder
	for _, uid := range slices.Sorted(maps.Keys(l.rows)) {
		fmt.Fprintf(&b, "%+v\n", l.rows[uid])
	}
	for _, p := range l.open {
		fmt.Fprintf(&b, "promise %+v\n", p)
	}
	if l.rest != (state.Rest{}) {
		fmt.Fprintf(&b, "at rest %+v\n", l.rest)
	}
	if l.deleting != 0 {
		fmt.Fprintf(&b, "deleting since %d\n", l.deleting)
	}
	return b.String()
}

func (l *ledger) promise(ps []state.Promise) {
	for _, p := range ps {
		row := l.rows[p.UID]
		if row.Phase == state.Landed || row.Phase == state.Deleted {
			row = state.Row{}
		}
		row.UID, row.Phase, row.Missing = p.UID, state.Promised, p.Missing
		row.Size, row.Header, row.Content = p.Size, p.Header, p.Content
		l.rows[p.UID] = row
		l.close(p.UID)
		delete(l.kept, p.UID)
		p.Missing = 0 // it belongs to the row
		l.open = append(l.open, p)
	}
}

// close closes an open promise, and reports whether there was one.
func (l *ledger) close(uid string) bool {
	n := len(l.open)
	l.open = slices.DeleteFunc(l.open, func(p state.Promise) bool { return p.UID == uid })
	return len(l.open) < n
}

func (l *ledger) land(at int64, ls []state.Landing) error {
	for _, landing := range ls {
		if !l.close(landing.UID) && !l.kept[landing.UID] {
			return fmt.Errorf("%q was never promised", landing.UID)
		}
		l.kept[landing.UID] = true
		if row := l.rows[landing.UID]; row.Phase == state.Promised {
			row.Phase, row.Landed = state.Landed, at
			row.Tries, row.NextTry, row.Reason = 0, 0, ""
			l.rows[landing.UID] = row
		}
	}
	return nil
}

func (l *ledger) retract(ps []state.Promise) {
	for _, p := range ps {
		l.close(p.UID)
		row := l.rows[p.UID]
		switch {
		case row.Phase != state.Promised || l.kept[p.UID]:
		case row.Reason != "":
			row.Phase = state.Refused
			l.rows[p.UID] = row
		default:
			delete(l.rows, p.UID)
		}
	}
}

func (l *ledger) suspect(at int64, why string, ps []state.Promise) {
	for _, p := range ps {
		l.close(p.UID)
		if row := l.rows[p.UID]; row.Phase == state.Promised {
			row.NextTry = max(row.NextTry, at)
			if row.Tries == 0 {
				row.Reason = cmp.Or(why, row.Reason)
			}
			l.rows[p.UID] = row
		}
	}
}

func (l *ledger) delete(at int64, uids []string) {
	l.deleting = at
	for _, uid := range uids {
		if row := l.rows[uid]; row.Phase == state.Landed || row.Phase == state.Deleted {
			row.Phase, row.Deleted, row.Missing = state.Deleted, at, 0
			row.Tries, row.NextTry, row.Reason = 0, 0, ""
			l.rows[uid] = row
		}
	}
}

func (l *ledger) undelete() {
	for uid, row := range l.rows {
		if row.Phase == state.Deleted && row.Deleted == l.deleting {
			row.Phase, row.Missing = state.Landed, row.Deleted
			l.rows[uid] = row
		}
	}
	l.deleting = 0
}

func (l *ledger) keep(at int64, h state.Housekeeping) {
	change := func(uids []string, f func(*state.Row)) {
		for _, uid := range uids {
			if row, ok := l.rows[uid]; ok {
				f(&row)
				l.rows[uid] = row
			}
		}
	}
	change(h.Missing, func(r *state.Row) {
		if r.Missing == 0 {
			r.Missing = at
		}
	})
	change(h.Found, func(r *state.Row) {
		if r.Missing = 0; r.Phase != state.Deleted {
			r.Deleted = 0
		}
	})
	change(h.Restored, func(r *state.Row) {
		if r.Phase == state.Deleted {
			r.Phase, r.Deleted, r.Missing = state.Landed, 0, 0
		}
	})
	for _, uid := range h.Forget {
		delete(l.rows, uid)
		delete(l.kept, uid)
		l.close(uid)
	}
}

// journal is a file of records. A record is in the file at once, where the next process
// finds it after a kill, and durable when the call that wrote it returns. A power cut
// loses any number of the last records that are not durable. It implements fetch.State.
type journal struct {
	durable ledger
	loose   []func(*ledger) // records that are not durable yet
	// pending is the record that is being written.
	pending func(*ledger)
	// step is called before each step.
	step   func(what string)
	faults journalFaults
}

// journalFaults are mistakes that a journal can make.
type journalFaults struct {
	promiseNotSynced bool // Promise returns before the promise is durable
	openNotSynced    bool // a new process does not make durable what it reads
}

var _ fetch.State = (*journal)(nil)

func newJournal() *journal {
	return &journal{durable: ledger{rows: map[string]state.Row{}, kept: map[string]bool{}}}
}

func (j *journal) clone() *journal {
	return &journal{durable: j.durable.clone(), loose: slices.Clone(j.loose), pending: j.pending, faults: j.faults}
}

// Deliveries returns nothing: an account with one sink has no message that another sink
// still needs.
func (j *journal) Deliveries(context.Context, string, string) ([]state.Delivery, error) {
	return nil, nil
}

// now returns what the next process reads.
func (j *journal) now() ledger {
	l := j.durable.clone()
	for _, record := range j.loose {
		record(&l)
	}
	return l
}

// written returns what the journal says once the pending record is in it.
func (j *journal) written() ledger {
	l := j.now()
	if j.pending != nil {
		j.pending(&l)
	}
	return l
}

func (j *journal) sync() {
	j.durable, j.loose = j.now(), nil
}

// begin opens the journal in a new process.
func (j *journal) begin() {
	j.step("open the journal")
	if !j.faults.openNotSynced {
		j.sync()
	}
}

// write records a change of the rows.
func (j *journal) write(ctx context.Context, what string, record func(*ledger)) error {
	return j.record(ctx, what, func(l *ledger) {
		l.rest = state.Rest{}
		record(l)
	})
}

func (j *journal) record(ctx context.Context, what string, change func(*ledger)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.pending = change
	j.step("journal " + what)
	j.pending = nil
	j.loose = append(j.loose, change)
	if what != "promises" || !j.faults.promiseNotSynced {
		j.sync()
	}
	return nil
}

// crashes returns the journals that a kill, or a power cut, may leave now.
func (j *journal) crashes(power bool) []*journal {
	all := []*journal{j.clone()}
	if j.pending != nil {
		more := j.clone()
		more.loose = append(more.loose, j.pending)
		all = append(all, more)
	}
	if power {
		longest := all[len(all)-1]
		all = nil
		for n := range len(longest.loose) + 1 {
			k := longest.clone()
			k.loose = k.loose[:n]
			k.sync()
			all = append(all, k)
		}
	}
	for _, k := range all {
		k.pending = nil
	}
	return all
}

func (j *journal) Lease(context.Context, string) (*state.Lease, error) {
	return new(state.Lease), nil
}

// Standing remembers nothing of the server: the capabilities of the model's server are
// asked with each poll, and it wants no pauses.
func (j *journal) Standing(context.Context, string) (state.Standing, error) {
	l := j.now()
	return state.Standing{Rest: l.rest, Open: len(l.open) > 0, Unconfirmed: l.deleting != 0}, nil
}

func (j *journal) Promises(context.Context, string) ([]state.Promise, error) {
	return j.now().open, nil
}

func (j *journal) Rows(context.Context, string) ([]state.Row, error) {
	l := j.now()
	l.undelete()
	rows := slices.Collect(maps.Values(l.rows))
	slices.SortFunc(rows, func(a, b state.Row) int { return strings.Compare(a.UID, b.UID) })
	return rows, nil
}

func (j *journal) RowStates(ctx context.Context, account string) (all []state.RowState, err error) {
	rows, err := j.Rows(ctx, account)
	for _, r := range rows {
		all = append(all, r.State())
	}
	return all, err
}

func (j *journal) Landed(context.Context, string, string) (map[string]bool, error) { return nil, nil }

func (j *journal) Promise(ctx context.Context, _ string, ps []state.Promise) error {
	return j.write(ctx, "promises", func(l *ledger) { l.promise(ps) })
}

func (j *journal) Land(ctx context.Context, _ string, at int64, ls []state.Landing) error {
	l := j.now()
	if err := l.land(at, ls); err != nil {
		return err
	}
	return j.write(ctx, "landings", func(l *ledger) { l.land(at, ls) })
}

func (j *journal) Retract(ctx context.Context, _ string, ps []state.Promise) error {
	return j.write(ctx, "withdrawals", func(l *ledger) { l.retract(ps) })
}

func (j *journal) Suspect(ctx context.Context, _ string, at int64, why string, ps []state.Promise) error {
	return j.write(ctx, "withdrawals", func(l *ledger) { l.suspect(at, why, ps) })
}

func (j *journal) Delete(ctx context.Context, _ string, at int64, uids []string) error {
	return j.write(ctx, "deletions", func(l *ledger) { l.delete(at, uids) })
}

func (j *journal) Confirm(ctx context.Context, _ string) error {
	return j.record(ctx, "confirmed deletions", func(l *ledger) { l.deleting = 0 })
}

func (j *journal) Undelete(ctx context.Context, _ string) error {
	return j.write(ctx, "what was not deleted", (*ledger).undelete)
}

func (j *journal) Keep(ctx context.Context, _ string, at int64, h state.Housekeeping) error {
	if h.Empty() {
		return nil
	}
	if len(h.Rekey) > 0 {
		return fmt.Errorf("the model knows no new keys: %v", h.Rekey)
	}
	return j.write(ctx, "housekeeping", func(l *ledger) { l.keep(at, h) })
}

// Refuse is for messages that cannot be delivered, of which the model has none.
func (j *journal) Refuse(_ context.Context, _ string, rs []state.Refusal) error {
	return fmt.Errorf("a message was refused: %+v", rs)
}

// SavePoll records the rest, and whether deletions are still in doubt. The remaining fields
// are for status only.
func (j *journal) SavePoll(ctx context.Context, _ string, p state.Poll) error {
	return j.record(ctx, "the poll", func(l *ledger) {
		if p.Rest != nil {
			l.rest = *p.Rest
		}
		if !p.Unconfirmed {
			l.deleting = 0
		}
	})
}
