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

// settle asks the sinks about promises that a crash, or a sink in trouble, left open, if
// promised says that there are any. Then it removes what was staged and never promised.
// There may be some after any poll: a poll that could not journal its promises has staged
// files, too, and the disk may have been too full to record that failure.
//
// What has arrived counts as fetched by this poll, because the last one did not know of
// it. What has not arrived is suspect (isSuspect). A sink that cannot
// answer now holds up only the messages that it has promised: sinkTrouble says why, and
// v.openKeys has their keys.
func (v *visit) settle(ctx context.Context, promised bool) (sinkTrouble, err error) {
	v.openKeys = map[string]bool{}
	if promised {
		if sinkTrouble, err = v.settlePromises(ctx); err != nil {
			return nil, err
		}
	}
	if len(v.openKeys) > 0 {
		return sinkTrouble, nil // sinks may share a spool, so that sweeping could remove what is promised
	}
	return nil, v.sweep(ctx)
}

// settlePromises asks the sinks about all open promises, and records their answers.
func (v *visit) settlePromises(ctx context.Context) (sinkTrouble, err error) {
	open, err := v.opts.State.Promises(ctx, v.Name)
	if err != nil {
		return nil, err
	}
	if len(open) > 0 && v.opts.settling != nil {
		v.opts.settling()
	}
	var landed, void []state.Promise
	cannotAnswer := map[string]bool{} // by the sink's name
	for _, p := range open {
		verdict := deliver.Unknown
		if sink := v.sinkOfPromise(p); sink != nil && !cannotAnswer[p.Sink] {
			err = v.opts.sinkBackoff.do(ctx, sink, v.opts.now, func() (err error) {
				verdict, err = sink.Settle(ctx, p.Token)
				return err
			})
			if err != nil && !isSinkTrouble(err) {
				return nil, err
			}
			cannotAnswer[p.Sink] = err != nil
			sinkTrouble = cmp.Or(sinkTrouble, err)
		}
		switch {
		case cannotAnswer[p.Sink]:
			v.openKeys[p.UID] = true
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
		return sinkTrouble, err
	}
	const why = "a poll ended while it was on its way into a sink"
	return sinkTrouble, v.opts.State.Suspect(ctx, v.Name, v.opts.now().Unix(), why, void)
}

// recordArrived records and reports the promises that were kept.
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
		if state.IsDigestKey(uid) {
			uid = ""
		}
		v.opts.report(Landed{Account: v.Name, UID: uid, Sink: p.Sink, Where: p.Where, Octets: p.Size})
	}
	standing, err := v.opts.State.Standing(ctx, v.Name)
	if err != nil {
		return err
	}
	v.summary.Fetched, v.summary.Octets = standing.Unreported, standing.UnreportedBytes
	return nil
}

// sweep removes what was staged and never promised. A sink that cannot be swept is added
// to v.downSinks, so that this poll does not use it.
func (v *visit) sweep(ctx context.Context) (err error) {
	// Sinks with lock files come first, and sweep for no account in particular: they know
	// whose the lock file is that a crash has left by a spool, which other sinks may share
	// and would sweep.
	for _, account := range []string{"", v.Name} {
		for _, t := range v.allSinks() {
			if account == "" && !t.Sink.Profile().Locks || v.downSinks[t.Name] != nil {
				continue
			}
			if e := t.Sink.Sweep(ctx, account); isSinkTrouble(e) {
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
		if e := v.opts.Sweep(v.Name); isSinkTrouble(e) {
			v.notice("mail that was left on its way may stay on this disk: %v", e)
		} else {
			err = errors.Join(err, e)
		}
	}
	return err
}

// sink returns the sink of that name; nil if there is none.
func (v *visit) sink(name string) deliver.Sink {
	for _, t := range v.allSinks() {
		if t.Name == name {
			return t.Sink
		}
	}
	return v.opts.Sinks[name]
}

// sinkOfPromise returns the sink that can tell what became of a promise; nil if there is
// none. A sink that was renamed answers for what it promised under its former name.
func (v *visit) sinkOfPromise(p state.Promise) deliver.Sink {
	named := v.sink(p.Sink)
	if named != nil && named.Made(p.Token) {
		return named
	}
	for _, t := range v.allSinks() {
		if t.Sink.Made(p.Token) {
			return t.Sink
		}
	}
	if named != nil {
		return named
	}
	for _, name := range slices.Sorted(maps.Keys(v.opts.Sinks)) {
		if s := v.opts.Sinks[name]; s.Made(p.Token) {
			return s
		}
	}
	return nil
}
