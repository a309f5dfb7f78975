package fetch

import (
	"context"
	"errors"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// splitByDelivery splits the sinks of a message into those that lack it and those that
// took it at an earlier try.
func (d *download) splitByDelivery(ctx context.Context, w Want, dests []destination) (lacking []destination, heldBy []Target, err error) {
	if d.toQuarantine || w.Row == nil {
		return dests, nil, nil
	}
	landed, err := d.landings(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	for _, dest := range dests {
		if slices.ContainsFunc(landed, func(delivery state.Delivery) bool { return delivery.Sink == dest.Name }) {
			heldBy = append(heldBy, dest.Target)
		} else {
			lacking = append(lacking, dest)
		}
	}
	return lacking, heldBy, nil
}

// landings returns where a message has landed, by the present names of the sinks. If a
// sink was renamed, the journal is updated: a delivery yet to come may go by its former
// name.
func (d *download) landings(ctx context.Context, w Want) (landed []state.Delivery, err error) {
	deliveries, err := d.opts.State.Deliveries(ctx, d.Name, w.Key)
	if err != nil {
		return nil, err
	}
	renamed := false
	for _, delivery := range deliveries {
		if delivery.Landed == 0 {
			continue
		}
		known := false
		for _, t := range d.allSinks() {
			if d.isDeliveryTo(t, delivery) {
				known, renamed = true, renamed || delivery.Sink != t.Name
				current := delivery
				current.Sink = t.Name
				landed = append(landed, current)
			}
		}
		if !known {
			landed = append(landed, delivery)
		}
	}
	if !renamed {
		return landed, nil
	}
	h := state.Housekeeping{Landed: map[string][]state.Delivery{w.Key: landed}}
	return landed, d.opts.State.Keep(ctx, d.Name, d.opts.now().Unix(), h)
}

// isDeliveryTo reports whether a delivery was to the sink, which may have had another
// name then: to overlook that would deliver twice. If another sink has that name now,
// the place that the delivery's token names decides; but a sink that has moved keeps
// its deliveries.
func (d *download) isDeliveryTo(t Target, delivery state.Delivery) bool {
	made := func(o Target) bool { return o.Sink.Made(delivery.Token) }
	if delivery.Sink == t.Name {
		return made(t) || !slices.ContainsFunc(d.allSinks(), made)
	}
	named := d.sink(delivery.Sink)
	return made(t) && (named == nil || !named.Made(delivery.Token))
}

// errDifferentMessage is why sinks that took another message by the same unique-id
// have yet to get this one.
var errDifferentMessage = errors.New("its unique-id was another message's, which some sinks have: they get this one at the next try")

// isDifferentMessage reports whether the sinks in heldBy took another message than this
// one. Where both headers identify a message, the content does not count: servers
// change fields of their own.
func (it *item) isDifferentMessage() bool {
	row := it.want.Row
	switch {
	case len(it.heldBy) == 0:
		return false
	case !row.Header.IsZero() && !it.header.IsZero():
		return row.Header != it.header
	default:
		return !row.Content.IsZero() && row.Content != it.content
	}
}

// recordComplete records that every sink that is still wanted has the message.
func (d *download) recordComplete(ctx context.Context, it *item, b *body) error {
	b.limit = 0
	if err := b.readToEnd(); err != nil {
		return err
	}
	d.recordSums(it)
	if it.isDifferentMessage() {
		d.addToBatch(it)
		return nil
	}
	w := it.want
	h := state.Housekeeping{Complete: []string{w.Key}}
	if err := d.opts.State.Keep(ctx, d.Name, d.opts.now().Unix(), h); err != nil {
		return err
	}
	delete(d.undelivered, w.Num)
	d.summary.Fetched++
	d.summary.Octets += w.Row.Size
	if d.due(d.opts.now().Unix()) {
		d.toDelete = append(d.toDelete, Listed{w.Num, w.Key})
	}
	return nil
}
