package cluster

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// TestNextPeer: what each node knows reaches all in about as many turns as its number
// of doublings, whichever begins when; and over time each asks each other one.
func TestNextPeer(t *testing.T) {
	for _, n := range []int{2, 3, 4, 5, 7, 8, 16, 50, 300} {
		var members []knowledge.NodeID
		for i := range n {
			members = append(members, knowledge.NodeID(fmt.Sprintf("%03d", i)))
		}
		knows := make([]map[int]bool, n)
		asked := make([]map[knowledge.NodeID]bool, n)
		place := map[knowledge.NodeID]int{}
		for i, id := range members {
			knows[i], asked[i], place[id] = map[int]bool{i: true}, map[knowledge.NodeID]bool{}, i
		}
		all, doublings := -1, bits.Len(uint(n-1))
		for turn := range doublings * n {
			before := make([]map[int]bool, n)
			for i := range knows {
				before[i] = map[int]bool{}
				for k := range knows[i] {
					before[i][k] = true
				}
			}
			done := true
			for i, id := range members {
				to, ok := nextPeer(members, id, turn)
				if !ok || to == id {
					t.Fatalf("%d members, turn %d: %s asks %q", n, turn, id, to)
				}
				asked[i][to] = true
				for k := range before[place[to]] {
					knows[i][k] = true
				}
				done = done && len(knows[i]) == n
			}
			if done && all < 0 {
				all = turn + 1
			}
			if all >= 0 && turn >= 2*doublings && n > 50 {
				break // it takes long
			}
		}
		if all < 0 || all > doublings+1 {
			t.Errorf("%d members: all know all after %d turns, with %d doublings", n, all, doublings)
		}
		for i := range asked {
			if n <= 50 && len(asked[i]) != n-1 {
				t.Errorf("%d members: %s asks %d of the others", n, members[i], len(asked[i]))
			}
		}
	}
	for _, members := range [][]knowledge.NodeID{nil, {"a"}, {"b", "c"}} {
		if to, ok := nextPeer(members, "a", 0); ok {
			t.Errorf("among %v a asks %q", members, to)
		}
	}
}
