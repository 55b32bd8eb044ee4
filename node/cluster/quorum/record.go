package quorum

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
)

// membersMost bounds a list: as many members as gossip takes.
const membersMost = 8192

// List is a numbered list of voters.
type List struct {
	Number  uint64             `json:"number" cbor:"1,keyasint"`  // 0: no list
	Members []knowledge.NodeID `json:"members" cbor:"2,keyasint"` // sorted
	// Origin is when the cluster began, in nanoseconds since 1970; 0: with an earlier version.
	// Of two clusters that meet the younger one joins the older one.
	Origin uint64 `json:"origin,omitempty" cbor:"3,keyasint,omitempty"`
}

// Sum is the checksum of the members.
func (l List) Sum() uint64 {
	h := fnv.New64a()
	for _, id := range l.Members {
		_, _ = h.Write([]byte(id))
	}
	return h.Sum64()
}

// Has reports whether a node is a voter.
func (l List) Has(id knowledge.NodeID) bool {
	_, ok := slices.BinarySearch(l.Members, id)
	return ok
}

func (l List) equal(o List) bool {
	return l.Number == o.Number && l.Origin == o.Origin && slices.Equal(l.Members, o.Members)
}

// newer orders the lists of one cluster by number, and those of two clusters by origin.
func (l List) newer(o List) bool {
	switch {
	case l.Number == 0 || o.Number == 0:
		return l.Number > 0 && o.Number == 0
	case l.Origin != o.Origin:
		return l.Origin < o.Origin
	}
	return cmp.Or(cmp.Compare(l.Number, o.Number), cmp.Compare(l.Sum(), o.Sum())) > 0
}

func (l List) check() error {
	if n := len(l.Members); n == 0 || n > membersMost {
		return fmt.Errorf("a list of %d voters, 1 to %d are allowed", n, membersMost)
	}
	for i := range l.Members {
		if len(l.Members[i]) != 32 || i > 0 && l.Members[i-1] >= l.Members[i] {
			return errors.New("the voters are not valid node ids in order")
		}
	}
	return nil
}

// Ballot numbers the attempts to agree on one list; (round, node) is unique.
type Ballot struct {
	Round uint64           `json:"round,omitempty" cbor:"1,keyasint"`
	Node  knowledge.NodeID `json:"node,omitempty" cbor:"2,keyasint"`
}

func (b Ballot) compare(o Ballot) int {
	return cmp.Or(cmp.Compare(b.Round, o.Round), cmp.Compare(b.Node, o.Node))
}

// Accepted is a proposed next list and the ballot in which this node accepted it.
type Accepted struct {
	List
	Ballot Ballot `json:"ballot" cbor:"3,keyasint"`
}

// Record is what a voter keeps on its disk. The keys of Number, Members and Next are
// those of earlier versions, whose records are read as they are: the list that was in
// force, and the newest that the node had agreed to.
type Record struct {
	Number  uint64             `json:"view,omitempty"` // 0: this node was never in a list with others
	Members []knowledge.NodeID `json:"stable"`
	Origin  uint64             `json:"origin,omitempty"`
	Next    []Accepted         `json:"tried,omitempty"` // at most one
	// Promised is the highest ballot that was answered; lower ones are refused.
	Promised Ballot `json:"promised"`
	// Follows is a newer list in which this node is no voter; at most one.
	Follows []List `json:"follows,omitempty"`
	// Removed are voters that an operator declared gone for good; they are not counted.
	Removed []knowledge.NodeID `json:"removed,omitempty"`
}

// list is the newest list with this node in it, or itself alone: the one that it votes in.
func (r Record) list() List { return List{Number: r.Number, Members: r.Members, Origin: r.Origin} }

// Counted is the list that a majority is counted in.
func (r Record) Counted() List {
	for _, l := range r.Follows {
		return l
	}
	return r.list()
}

// Equal compares records.
func (r Record) Equal(o Record) bool {
	return r.list().equal(o.list()) && r.Promised == o.Promised && slices.Equal(r.Removed, o.Removed) &&
		slices.EqualFunc(r.Follows, o.Follows, List.equal) &&
		slices.EqualFunc(r.Next, o.Next, func(x, y Accepted) bool { return x.Ballot == y.Ballot && x.List.equal(y.List) })
}

func (r Record) clone() Record {
	r.Members, r.Next, r.Removed = slices.Clone(r.Members), slices.Clone(r.Next), slices.Clone(r.Removed)
	r.Follows = slices.Clone(r.Follows)
	return r
}

// highest is the highest number of another list that is believed.
func (r Record) highest(origin uint64) uint64 {
	if l := r.Counted(); l.Number > 0 && l.Origin == origin {
		return l.Number + ahead
	}
	return aheadFirst
}

// adopt makes a list that was agreed the one in force. A voter of it votes in it from now
// on, and what was promised about its predecessor is void.
func (r Record) adopt(self knowledge.NodeID, l List) Record {
	if !l.newer(r.Counted()) {
		return r
	}
	if !l.Has(self) {
		if r.Number > 0 && r.Origin != l.Origin { // its own cluster was the younger one
			r = Record{Members: []knowledge.NodeID{self}}
		}
		r.Follows = []List{l}
		return r
	}
	removed := slices.DeleteFunc(slices.Clone(r.Removed), func(id knowledge.NodeID) bool { return !l.Has(id) })
	return Record{Number: l.Number, Members: slices.Clone(l.Members), Origin: l.Origin, Removed: removed}
}

// voters are the members that are counted.
func (r Record) voters() []knowledge.NodeID {
	removed := func(id knowledge.NodeID) bool { return slices.Contains(r.Removed, id) }
	return slices.DeleteFunc(slices.Clone(r.Counted().Members), removed)
}

// load makes a record that was read from the disk whole.
func load(self knowledge.NodeID, r Record) Record {
	r = r.clone()
	slices.Sort(r.Members)
	r.Members = slices.Compact(r.Members)
	r.Follows = slices.DeleteFunc(r.Follows, func(l List) bool { return l.check() != nil || !l.newer(r.list()) })
	if r.Number == 0 || r.list().check() != nil {
		return Record{Members: []knowledge.NodeID{self}, Follows: r.Follows}
	}
	if !r.list().Has(self) {
		return Record{Members: []knowledge.NodeID{self}, Follows: []List{r.Counted()}}
	}
	if n := len(r.Next); n > 0 {
		r.Next = r.Next[n-1:]
		slices.Sort(r.Next[0].Members)
		if r.Next[0].Number <= r.Number || r.Next[0].check() != nil {
			r.Next = nil
		}
	}
	return r
}
