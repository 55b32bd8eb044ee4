package cluster

import (
	"slices"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// Tried is a view that this node agreed to and does not know to be in force.
type Tried struct {
	Number  uint64             `json:"number"`
	Members []knowledge.NodeID `json:"members"`
}

// Ballot is what a node remembers of views: what it told of them is on its disk first.
type Ballot struct {
	View uint64 `json:"view,omitempty"` // the number of the stable view; 0: this node was in none yet
	// Tried are newer views, the newest last.
	Tried []Tried `json:"tried,omitempty"`
	// Left are members that said goodbye, and are not back.
	Left []knowledge.NodeID `json:"left,omitempty"`
	// Behind: others are in a view that this node was not in; it follows them until
	// it is. Back: it said goodbye itself, and was in no view since that is newer than
	// what it had agreed to by then, BackAt.
	Behind bool   `json:"behind,omitempty"`
	Back   bool   `json:"back,omitempty"`
	BackAt uint64 `json:"back_at,omitempty"`
	// Met: it was in a view with others.
	Met bool `json:"met,omitempty"`
}

func (b Ballot) same(o Ballot) bool {
	return b.View == o.View && b.Behind == o.Behind && b.Back == o.Back && b.BackAt == o.BackAt && b.Met == o.Met && slices.Equal(b.Left, o.Left) &&
		slices.EqualFunc(b.Tried, o.Tried, func(x, y Tried) bool { return x.Number == y.Number && slices.Equal(x.Members, y.Members) })
}

// newest is the highest number that the ballot holds.
func (b Ballot) newest() uint64 {
	if n := len(b.Tried); n > 0 {
		return b.Tried[n-1].Number
	}
	return b.View
}

// voter is what one node says of views.
type voter struct {
	member.Views
	features    uint32
	alive, left bool
}

func (v voter) has(feature uint32) bool { return v.features&feature != 0 }

// able: it can agree to a view.
func (v voter) able() bool { return v.has(member.FeatureViews) && !v.has(member.FeatureMute) }
