package fetch

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// settle asks the sinks about promises that a crash, or a sink in trouble, left
// open, if promised says that there are any. Then it sweeps away what was staged
// and never promised. That can be there after any poll: one whose promises could
// not be journalled has staged files, too, and its disk may have been too full to
// note the failure.
//
// What has arrived counts as fetched by this poll: the last one did not know. What
// has not is suspect. A sink that cannot answer now holds up only the messages it
// has promised: unanswered are their keys, broken is why.
func (v *visit) settle(ctx context.Context, promised bool) (broken, err error) {
	v.unanswered = map[string]bool{}
	if promised {
		if broken, err = v.settlePromises(ctx); err != nil {
			return nil, err
		}
	}
	if len(v.unanswered) > 0 {
		return broken, nil // sinks may share what would be swept
	}
	return nil, v.sweep(ctx)
}

// settlePromises asks the sinks, and books their answers.
func (v *visit) settlePromises(ctx context.Context) (broken, err error) {
	open, err := v.opts.State.Promises(ctx, v.Name)
	if err != nil {
		return nil, err
	}
	if len(open) > 0 && v.opts.settling != nil {
		v.opts.settling()
	}
	var landed, void []state.Promise
	silent := map[string]bool{} // sinks that cannot answer
	for _, p := range open {
		verdict := deliver.Unknown
		if sink := v.sinkOfPromise(v.opts, p); sink != nil && !silent[p.Sink] {
			err = v.opts.silent.ask(ctx, sink, v.opts.now, func() (err error) {
				verdict, err = sink.Settle(ctx, p.Token)
				return err
			})
			if err != nil && !isolated(err) {
				return nil, err
			}
			silent[p.Sink] = err != nil
			broken = cmp.Or(broken, err)
		}
		switch {
		case silent[p.Sink]:
			v.unanswered[p.UID] = true
		case verdict == deliver.Landed:
			p.Where = cmp.Or(p.Where, "as promised before")
			landed = append(landed, p)
		default:
			void = append(void, p)
		}
	}
	if len(open) > 0 {
		v.notice("the last poll left %s: %d had arrived, %d are made again, %d nobody can tell yet",
			number(len(open), "delivery on its way", "deliveries on their way"), len(landed), len(void), len(open)-len(landed)-len(void))
	}
	if err := v.recordArrived(ctx, landed); err != nil || len(void) == 0 {
		return broken, err
	}
	const why = "a poll ended while it was on its way into a sink"
	return broken, v.opts.State.Suspect(ctx, v.Name, v.opts.now().Unix(), why, void)
}

// arrived books promises that were kept.
func (v *visit) recordArrived(ctx context.Context, kept []state.Promise) error {
	if len(kept) == 0 {
		return nil
	}
	landings := make([]state.Landing, len(kept))
	for i, p := range kept {
		landings[i] = state.Landing{UID: p.UID, Sink: p.Sink, Where: p.Where}
	}
	if err := v.opts.State.Land(ctx, v.Name, v.opts.now().Unix(), landings); err != nil {
		return err
	}
	for _, p := range kept {
		uid := p.UID
		if _, _, nameless := state.Nameless(uid); nameless {
			uid = ""
		}
		v.opts.report(Landed{Account: v.Name, UID: uid, Sink: p.Sink, Where: p.Where, Octets: p.Size})
	}
	standing, err := v.opts.State.Standing(ctx, v.Name)
	if err != nil {
		return err
	}
	v.summary.Fetched, v.summary.Bytes = standing.Untold, standing.UntoldBytes
	return nil
}

// sweep removes what was staged and never promised. A sink that cannot be swept is
// not used by the poll: it is added to down.
func (v *visit) sweep(ctx context.Context) (err error) {
	// What locks comes first, for no account: whose the lock file is that a crash has left,
	// it knows by a spool that sinks may share, and that they then sweep.
	for _, of := range []string{"", v.Name} {
		for _, t := range v.targets() {
			if of == "" && !t.Sink.Profile().Locks || v.downSinks[t.Name] != nil {
				continue
			}
			if e := t.Sink.Sweep(ctx, of); isolated(e) {
				v.downSinks[t.Name] = e
			} else {
				err = errors.Join(err, e)
			}
		}
	}
	if v.Filter != nil {
		err = errors.Join(err, v.Filter.Sweep(ctx, v.Name))
	}
	if v.opts.Sweep != nil {
		if e := v.opts.Sweep(v.Name); isolated(e) {
			v.notice("mail that was left on its way may stay on this disk: %v", e)
		} else {
			err = errors.Join(err, e)
		}
	}
	return err
}

// sink returns the sink of that name; nil if there is none.
func (a *Account) sink(o *Options, name string) deliver.Sink {
	for _, t := range a.targets() {
		if t.Name == name {
			return t.Sink
		}
	}
	return o.Sinks[name]
}

// sinkOfPromise returns the sink that can tell what became of a promise; nil if there is
// none. A sink that was renamed answers for what it promised under its former name.
func (a *Account) sinkOfPromise(o *Options, p state.Promise) deliver.Sink {
	named := a.sink(o, p.Sink)
	if named != nil && named.Made(p.Token) {
		return named
	}
	for _, t := range a.targets() {
		if t.Sink.Made(p.Token) {
			return t.Sink
		}
	}
	if named != nil {
		return named
	}
	for _, name := range slices.Sorted(maps.Keys(o.Sinks)) {
		if s := o.Sinks[name]; s.Made(p.Token) {
			return s
		}
	}
	return nil
}
