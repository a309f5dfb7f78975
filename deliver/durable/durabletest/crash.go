package durabletest

import (
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// maxCuts bounds the states PowerCuts looks at.
const maxCuts = 4096

// Kill ends the process and returns the file system as the next one sees it.
// What was not synced is still there, and is still not durable.
func (f *FS) Kill() *FS {
	f.crash()
	return f.Fork()
}

// Fork returns what Kill would return now, but does not end the process. So a test
// can look at the state after a crash at any operation of a single run.
func (f *FS) Fork() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := newClone(func(n *inode, c *clone) *inode {
		m := &inode{
			ino: n.ino, mode: n.mode, time: n.time, syncFailed: n.syncFailed,
			data: slices.Clip(n.data), synced: slices.Clip(n.synced),
		}
		if n.isDir() {
			m.names, m.disk = c.names(n.names), c.names(n.disk)
		}
		return m
	})
	h := g.fs(f)
	events := make(map[*event]*event)
	for _, e := range f.pending {
		d := &event{dir: g.inode(e.dir), name: e.name, to: g.inode(e.to), needs: e.needs}
		events[e] = d
		h.pending = append(h.pending, d)
	}
	for _, d := range h.pending {
		if d.needs == nil || d.needs.durable {
			d.needs = nil
		} else {
			d.needs = events[d.needs]
		}
	}
	return h
}

// PowerCuts ends the process, cuts the power, and ranges over the states that the
// disk may be in. The first one has lost as much as possible, the last one nothing. If
// there are more than 4096 combinations of what is kept and lost, PowerCuts yields
// the two extremes, each combination that differs from one of them in a single
// choice, and a random sample of the others, which is the same in each run.
func (f *FS) PowerCuts() iter.Seq[*FS] {
	f.crash()
	f.mu.Lock()
	defer f.mu.Unlock()
	cut := newPowerCut(f)
	return func(yield func(*FS) bool) {
		for pick := range picks(cut.choices) {
			if g := cut.after(pick); g != nil && !yield(g) {
				return
			}
		}
	}
}

// powerCut holds what may become of a file system in a power cut.
type powerCut struct {
	f       *FS
	chains  [][]*event // the pending changes of each name; a cut keeps the first few
	dirty   []*inode   // files whose content is not durable
	content [][][]byte // of each dirty file: what it may contain after the cut
	choices []int      // the number of outcomes, for each chain and then for each file
}

func newPowerCut(f *FS) *powerCut {
	p := &powerCut{f: f}
	type name struct {
		dir  *inode
		base string
	}
	chain := make(map[name]int)
	reachable := []*inode{f.root}
	for _, e := range f.pending {
		k := name{e.dir, e.name}
		i, ok := chain[k]
		if !ok {
			i = len(p.chains)
			chain[k] = i
			p.chains = append(p.chains, nil)
		}
		p.chains[i] = append(p.chains[i], e)
		if e.to != nil {
			reachable = append(reachable, e.to)
		}
	}
	for _, c := range p.chains {
		p.choices = append(p.choices, len(c)+1)
	}
	seen := make(map[*inode]bool)
	for len(reachable) > 0 {
		n := reachable[0]
		reachable = reachable[1:]
		if seen[n] {
			continue
		}
		seen[n] = true
		if n.dirty() {
			p.dirty = append(p.dirty, n)
			torn := n.torn()
			p.content = append(p.content, torn)
			p.choices = append(p.choices, len(torn))
		}
		for _, child := range sorted(n.disk) {
			reachable = append(reachable, child)
		}
	}
	return p
}

// after returns the file system after a power cut with the outcome that pick has
// for each of the choices. It is nil if that cannot happen: a rename does not lose
// both names.
func (p *powerCut) after(pick []int) *FS {
	kept := make(map[*event]bool)
	for i, c := range p.chains {
		for _, e := range c[:pick[i]] {
			kept[e] = true
		}
	}
	for e := range kept {
		if e.needs != nil && !e.needs.durable && !kept[e.needs] {
			return nil
		}
	}
	content := make(map[*inode][]byte)
	for i, n := range p.dirty {
		content[n] = p.content[i][pick[len(p.chains)+i]]
	}
	return newClone(func(n *inode, c *clone) *inode {
		data, ok := content[n]
		if !ok {
			data = n.synced
		}
		m := &inode{ino: n.ino, mode: n.mode, time: n.time, data: slices.Clip(data), synced: slices.Clip(data)}
		if n.isDir() {
			m.names = c.names(n.disk)
			for _, e := range p.f.pending {
				if e.dir == n && kept[e] {
					setName(m.names, e.name, c.inode(e.to))
				}
			}
			m.disk = maps.Clone(m.names)
		}
		return m
	}).fs(p.f)
}

// picks ranges over all combinations of the choices, or over a sample if they are
// more than maxCuts. pick[i] is an outcome from 0 to choices[i]-1.
func picks(choices []int) iter.Seq[[]int] {
	total := 1
	for _, c := range choices {
		total *= c
		if total > maxCuts {
			return sample(choices)
		}
	}
	return func(yield func([]int) bool) {
		pick := make([]int, len(choices))
		for range total {
			if !yield(pick) {
				return
			}
			for i := range pick {
				if pick[i]++; pick[i] < choices[i] {
					break
				}
				pick[i] = 0
			}
		}
	}
}

// sample ranges over maxCuts combinations of the choices, as PowerCuts describes it.
func sample(choices []int) iter.Seq[[]int] {
	lost, all := make([]int, len(choices)), make([]int, len(choices))
	for i, c := range choices {
		all[i] = c - 1
	}
	return func(yield func([]int) bool) {
		random := rand.New(rand.NewPCG(1, 1))
		left := maxCuts
		try := func(pick []int) bool {
			left--
			return left > 0 && yield(pick)
		}
		if !try(lost) {
			return
		}
		for i, c := range choices {
			for k := range c {
				for _, extreme := range [][]int{lost, all} {
					pick := slices.Clone(extreme)
					if pick[i] == k {
						continue
					}
					if pick[i] = k; !try(pick) {
						return
					}
				}
			}
		}
		for left > 1 {
			pick := make([]int, len(choices))
			for i, c := range choices {
				pick[i] = random.IntN(c)
			}
			if !try(pick) {
				return
			}
		}
		yield(all)
	}
}
