package cluster

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
)

const (
	// stableAfter is how long the members of a view must be there, or not, and a
	// newcomer be there, before a view of who is there now is tried.
	stableAfter = time.Minute
	// firstAfter is that of nodes that were in no view yet.
	firstAfter = 5 * time.Second
	// tryAgain is how long a view that was tried has to become the one of all.
	tryAgain = 10 * time.Second
	// hungAfter is how long a disk may take before it counts as one that takes nothing.
	hungAfter = 3 * tryAgain
	// triesMost and triedMost bound the views that were tried and may be in force
	// somewhere, and their members. Who has that many tries no other.
	triesMost, triedMost = 16, 8192
	// leap is how far ahead of this node's newest view another's can be: views follow each
	// other in ten seconds at the soonest. farthest is for a node that was in none yet.
	leap, farthest = 1 << 20, 1 << 40
)

// ballot decides whether this node is on the side of the majority, and which view comes
// next. It is dynamic voting (Jajodia and Mutchler, 1990) with the agreement that makes it
// safe (Yeger Lotem, Keidar and Dolev, 1997): a view is in force when all its members have
// written down and told that they agree, and who has agreed needs a majority of it too,
// besides one of the view before, until it knows. So of every majority of a view at least
// one member knows of the next one, and says so:
//
//   - nobody has a majority who sees a member of its views with a newer one that has none;
//   - who sees a member in a later view than its own has what that one has;
//   - a member that tells an older view than it once agreed to has forgotten, and counts not.
type ballot struct {
	Ballot
	self      knowledge.NodeID
	stable    map[knowledge.NodeID]bool
	list      []knowledge.NodeID         // of stable, in order
	sum       uint64                     // of list
	voters    map[knowledge.NodeID]voter // of the last step
	since     map[knowledge.NodeID]time.Time
	present   []knowledge.NodeID             // of the stable view; all, before the first
	calm      time.Time                      // since when
	turned    map[knowledge.NodeID]time.Time // when who came or went last did so
	triedAt   time.Time
	sees      bool      // a majority is there
	majority  bool      // and most of them see one, too
	mute      bool      // the disk does not take the ballot
	unwritten time.Time // since when it has not taken the newest number
	hung      bool      // it has not for long
	written   uint64    // the newest number that is on the disk
}

func newBallot(self knowledge.NodeID, known Membership, now time.Time) *ballot {
	if known.Self != "" && known.Self != self { // the disk of another node, which this one is a clone of
		known.Stable, known.Ballot = nil, Ballot{}
	}
	b := &ballot{Ballot: known.Ballot, self: self, since: map[knowledge.NodeID]time.Time{}, turned: map[knowledge.NodeID]time.Time{}, calm: now, sees: true, majority: true}
	b.enter(append(slices.Clone(known.Stable), self))
	b.written = b.newest()
	return b
}

// sumOf names a view by its members, which are in order.
func sumOf(ids []knowledge.NodeID) uint64 {
	h := fnv.New64a()
	for _, id := range ids {
		_, _ = h.Write([]byte(id))
	}
	return h.Sum64()
}

func (b *ballot) enter(view []knowledge.NodeID) {
	b.stable = make(map[knowledge.NodeID]bool, len(view))
	for _, id := range view {
		b.stable[id] = true
	}
	b.list = slices.Sorted(maps.Keys(b.stable))
	b.Met = b.Met || len(b.list) > 1
	b.sum = sumOf(b.list)
}

// newestMembers are those of the newest view.
func (b *ballot) newestMembers() []knowledge.NodeID {
	if n := len(b.Tried); n > 0 {
		return b.Tried[n-1].Members
	}
	return b.list
}

// says is what this node tells of views, the newest one only when it is on the disk.
func (b *ballot) says() (v member.Views, features uint32) {
	v, features = member.Views{Base: b.View, Tried: b.View, Sum: b.sum, BaseSum: b.sum}, member.FeatureViews
	for _, t := range b.Tried {
		if t.Number <= b.written {
			v.Tried, v.Sum = t.Number, sumOf(t.Members)
		}
	}
	for _, f := range [...]struct {
		feature uint32
		on      bool
	}{{member.FeatureMajority, b.sees && b.voters != nil}, {member.FeatureCounts, b.majority && b.voters != nil}, {member.FeatureMinority, !b.sees && b.voters != nil}, {member.FeatureBehind, b.Behind}, {member.FeatureBack, b.Back}, {member.FeatureMute, b.mute || b.hung}} {
		if f.on {
			features |= f.feature
		}
	}
	return v, features
}

// pause is for a node that was away: nothing has stood since before.
func (b *ballot) pause(now time.Time) {
	b.calm = now
	clear(b.since)
}

// goodbye is for a node that stops. What nobody hears binds nobody.
func (b *ballot) goodbye() {
	heard := b.voters == nil && len(b.stable) > 1 // it has not looked, and may be heard
	for id, v := range b.voters {
		heard = heard || v.alive && id != b.self
	}
	if heard {
		b.Back, b.BackAt = true, b.newest()
	}
}

// believable reports whether what a node says can be. One lie must not use up the numbers.
func (b *ballot) believable(v voter) bool {
	most := b.newest() + leap
	if b.newest() == 0 {
		most = farthest
	}
	return v.Base <= v.Tried && v.Tried <= most
}

// step is one look at the others; true: there is something to write down.
func (b *ballot) step(now time.Time, voters map[knowledge.NodeID]voter) bool {
	for id, v := range voters {
		if !b.believable(v) {
			voters[id] = voter{features: v.features, left: v.left}
		}
	}
	b.voters = voters
	before := b.Ballot
	before.Tried = slices.Clone(b.Tried)
	if b.newest() <= b.written {
		b.unwritten = time.Time{}
	} else if b.unwritten.IsZero() {
		b.unwritten = now
	}
	b.hung = !b.unwritten.IsZero() && now.Sub(b.unwritten) >= hungAfter
	b.look(now)
	for b.agreed(now) {
	}
	b.judge()
	if b.sees && !b.mute && !b.hung {
		b.try(now)
		b.judge()
	}
	return !b.Ballot.same(before)
}

// look notes who is there since when, and who said goodbye.
func (b *ballot) look(now time.Time) {
	for id := range b.since {
		if !b.voters[id].alive {
			delete(b.since, id)
		}
	}
	var present, left []knowledge.NodeID
	for id, v := range b.voters {
		if !v.alive {
			continue
		}
		if b.since[id].IsZero() {
			b.since[id] = now
		}
		if b.stable[id] || b.View == 0 {
			present = append(present, id)
		}
	}
	slices.Sort(present)
	b.turn(now, present)
	gone := func(id knowledge.NodeID) bool {
		return id != b.self && (b.voters[id].left || slices.Contains(b.Left, id))
	}
	for id := range b.stable {
		if v := b.voters[id]; (!v.alive || v.has(member.FeatureViews) && v.Tried < b.View) && gone(id) {
			left = append(left, id)
		}
	}
	for _, t := range b.Tried {
		for _, id := range t.Members {
			if !b.stable[id] && !b.voters[id].alive && gone(id) {
				left = append(left, id)
			}
		}
	}
	slices.Sort(left)
	b.Left = slices.Compact(left)
}

// turn notes who came and who went. That ends the calm, but not where it is one that had
// not stood, or been away, for long: one that fails again and again holds nothing up.
func (b *ballot) turn(now time.Time, present []knowledge.NodeID) {
	if slices.Equal(present, b.present) {
		return
	}
	for _, id := range slices.Concat(present, b.present) {
		_, is := slices.BinarySearch(present, id)
		if _, was := slices.BinarySearch(b.present, id); is == was {
			continue
		}
		if now.Sub(b.turned[id]) >= b.patience(voter{}) {
			b.calm = now
		}
		b.turned[id] = now
	}
	b.present = present
	maps.DeleteFunc(b.turned, func(_ knowledge.NodeID, at time.Time) bool { return now.Sub(at) >= stableAfter })
}

// agreed takes a view over that all its members agreed to, or that one of them has: also
// under the number of an older one of the same members, whose place it took.
func (b *ballot) agreed(now time.Time) bool {
	for i := len(b.Tried) - 1; i >= 0; i-- {
		t := b.Tried[i]
		sum, all, number := sumOf(t.Members), t.Number <= b.written, b.View
		for _, id := range t.Members {
			v := b.voters[id]
			same := v.Sum == sum && v.has(member.FeatureViews)
			if v.BaseSum == sum && v.has(member.FeatureViews) && v.Base <= t.Number && id != b.self {
				number = max(number, v.Base)
			}
			all = all && (same && v.Tried == t.Number || id == b.self)
		}
		if all {
			number = t.Number
		}
		if number == b.View {
			continue
		}
		later := slices.DeleteFunc(slices.Clone(b.Tried), func(o Tried) bool { return o.Number <= number })
		b.View, b.Tried, b.Behind, b.Back = number, later, false, b.Back && number <= b.BackAt
		b.enter(t.Members)
		b.look(now)
		return true
	}
	return false
}

// holds reports whether there are more than half of a view, or just half, none of whom
// was away, where another one said goodbye: nobody else can be the half of it then, for
// who comes back from a goodbye makes none.
func (b *ballot) holds(view []knowledge.NodeID, number uint64, there func(knowledge.NodeID) bool) bool {
	have, left, back := 0, false, b.Back
	for _, id := range view {
		v := b.voters[id]
		switch {
		case id == b.self:
			have++
		case there(id) && (v.Tried >= number || !v.has(member.FeatureViews)):
			have++
			back = back || v.has(member.FeatureBack)
		case slices.Contains(b.Left, id):
			left = true
		}
	}
	return 2*have > len(view) || 2*have == len(view) && left && !back
}

func (b *ballot) alive(id knowledge.NodeID) bool { return b.voters[id].alive }

// counts: who sees no majority itself may have agreed to a view that others have in force.
func (b *ballot) counts(id knowledge.NodeID) bool {
	return b.alive(id) && !b.voters[id].has(member.FeatureMinority)
}

// concerns reports whether what a node says of views binds this one. Who was never in a
// view with others believes anybody.
func (b *ballot) concerns(id knowledge.NodeID) bool {
	if !b.Met && len(b.Tried) == 0 || b.stable[id] {
		return true
	}
	return slices.ContainsFunc(b.Tried, func(t Tried) bool { return slices.Contains(t.Members, id) })
}

// judge finds whether this side has a majority.
func (b *ballot) judge() {
	newest := b.newest()
	later, follow, counts, free, followed, top := false, false, false, true, false, uint64(0)
	lead := func(v voter) {
		if v.Tried >= newest && v.has(member.FeatureMajority) && !v.has(member.FeatureBehind) {
			follow, counts = true, counts || v.has(member.FeatureCounts)
		}
	}
	for id, v := range b.voters {
		if id == b.self || !v.alive || !b.concerns(id) {
			continue
		}
		if v.Base > b.View {
			later = true
			followed = followed || v.has(member.FeatureMajority)
			top = max(top, v.Base)
			lead(v)
		}
		free = free && (v.Tried <= newest || v.has(member.FeatureMajority))
	}
	for id, v := range b.voters { // or one that it was never with, whom those follow that it was with
		if followed && id != b.self && v.alive && v.Base > top {
			lead(v)
		}
	}
	switch {
	case later || b.Behind:
		b.sees, b.majority = follow, counts
		b.Behind = b.Behind || follow && len(b.stable) == 1
		return
	case !free || !b.holds(b.list, b.View, b.alive):
		b.sees, b.majority = false, false
		return
	}
	b.sees, b.majority = true, b.holds(b.list, b.View, b.counts)
	for _, t := range b.Tried {
		b.sees = b.sees && b.holds(t.Members, 0, b.alive)
		b.majority = b.majority && b.sees && b.holds(t.Members, 0, b.counts)
	}
}

// patience is how long a node has to be there until it is taken in.
func (b *ballot) patience(v voter) time.Duration {
	if b.View == 0 && v.Base == 0 {
		return firstAfter
	}
	return stableAfter
}

// next are the members of the view that would follow: those of the last one that are
// there, and who came and has stood for a while. Who is on the wrong side, or cannot write
// its word down, is none. soon: without the while.
func (b *ballot) next(now time.Time, soon bool) []knowledge.NodeID {
	next := []knowledge.NodeID{b.self}
	for id, v := range b.voters {
		switch {
		case id == b.self || !v.alive:
		case b.stable[id] && (v.able() || !v.has(member.FeatureViews)):
			next = append(next, id)
		case !b.stable[id] && v.able() && v.has(member.FeatureMajority) && (soon || now.Sub(b.since[id]) >= b.patience(v)):
			next = append(next, id)
		}
	}
	slices.Sort(next)
	return next
}

// try agrees to a view: to one that another tries, when it is what this node sees, or
// after calm to one of its own.
func (b *ballot) try(now time.Time) {
	newest, later, waits, newer := b.newest(), b.Behind, false, false
	for id, v := range b.voters {
		if v.alive && id != b.self {
			newer = newer || v.Tried > newest
			if b.concerns(id) {
				later, waits = later || v.Base > b.View, waits || v.Tried > newest && v.able()
			}
		}
	}
	if newer {
		if t := b.joined(now); t.Number > 0 {
			b.agree(now, t, later)
			return
		}
	}
	if later || waits || now.Sub(b.calm) < b.patience(voter{}) || !b.triedAt.IsZero() && now.Sub(b.triedAt) < tryAgain {
		return
	}
	next, highest := b.next(now, false), newest
	if newest > 0 && slices.Equal(next, b.newestMembers()) && (newest > b.View || !b.renews(next)) {
		return // it is the one, or is on its way
	}
	for _, id := range next {
		v := b.voters[id]
		if id != b.self && !v.has(member.FeatureViews) {
			return // of an older version: it will never agree
		}
		highest = max(highest, v.Tried)
	}
	highest = max(highest, b.ahead())
	b.agree(now, Tried{Number: highest + 1, Members: next}, false)
}

// renews: a view of the same members lets one count again that was away, or has forgotten,
// or one follow that agreed to a newer view which never came.
func (b *ballot) renews(next []knowledge.NodeID) bool {
	return b.Back || b.ahead() > 0 || slices.ContainsFunc(next, func(id knowledge.NodeID) bool {
		v := b.voters[id]
		return id != b.self && (v.has(member.FeatureBack) || v.Tried < b.View)
	})
}

// ahead is the newest view that one agreed to who sees no majority, where that is newer than
// all of this node's: it follows nobody until there is a newer one. 0: there is none.
func (b *ballot) ahead() (number uint64) {
	for _, v := range b.voters {
		if v.alive && v.able() && v.Tried > b.newest() && v.has(member.FeatureMinority) {
			number = max(number, v.Tried)
		}
	}
	return number
}

// joined is the newest view that others try and that is what this node sees.
func (b *ballot) joined(now time.Time) (join Tried) {
	join.Number = b.newest()
	for _, soon := range []bool{false, true} {
		view := b.next(now, soon)
		sum := sumOf(view)
		for _, id := range view {
			v := b.voters[id]
			if id != b.self && v.Tried > max(v.Base, join.Number) && v.Sum == sum && !v.has(member.FeatureBehind) {
				join = Tried{Number: v.Tried, Members: view}
			}
		}
	}
	if join.Members == nil {
		return Tried{}
	}
	return join
}

// agree binds this node to a view. One of the same members as an older one takes its place.
func (b *ballot) agree(now time.Time, t Tried, later bool) {
	there := func(id knowledge.NodeID) bool { return slices.Contains(t.Members, id) }
	if !later && (!b.holds(b.list, b.View, there) || slices.ContainsFunc(b.Tried, func(o Tried) bool { return !b.holds(o.Members, 0, there) })) {
		return // who is not in it may have one of these in force
	}
	tried := slices.DeleteFunc(slices.Clone(b.Tried), func(o Tried) bool { return slices.Equal(o.Members, t.Members) })
	sum := len(t.Members)
	for _, o := range tried {
		sum += len(o.Members)
	}
	if len(tried) >= triesMost || len(tried) > 0 && sum > triedMost {
		return
	}
	b.Tried, b.Behind, b.triedAt = append(tried, t), b.Behind || later, now
}

// expected is how many are to be there: those that a majority is counted among where
// there is none, else all but who said goodbye, and newcomers.
func (b *ballot) expected() int {
	if !b.majority {
		return len(b.stable)
	}
	n := len(b.stable)
	for _, id := range b.Left {
		if b.stable[id] {
			n--
		}
	}
	for id, v := range b.voters {
		if v.alive && !b.stable[id] {
			n++
		}
	}
	return n
}
