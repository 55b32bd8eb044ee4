package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// TestUnreached: what a node owns that cannot be called goes to others, for as long.
func TestUnreached(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		shut, other := hosts[2], hosts[0]
		key := knowledge.ServiceKey("s") // "" would be none
		for i := 0; other.c.View().Ring.Owner(key) != shut.c.self; i++ {
			key = knowledge.ServiceKey("s" + string(rune('a'+i)))
		}
		report := func() {
			r := other.report()
			r.Service = key
			other.c.Report([]plan.Report{r})
			time.Sleep(10 * time.Second)
		}
		report()
		before := other.c.View().Terms[key]
		if before.Owner != shut.c.self {
			t.Fatalf("before it is %s", before.Owner.Short())
		}
		for range 2 {
			shut.c.Reached(false)
			report()
		}
		v := shut.c.View()
		if now := other.c.View().Terms[key]; now.Owner == shut.c.self || !now.After(before) || v.State != member.Waiting ||
			v.Claims != 0 || v.Why == "" {
			t.Errorf("owner %s, and it is %v with %d claims, %q", now.Owner.Short(), v.State, v.Claims, v.Why)
		}
		shut.c.Reached(true)
		for range 5 {
			report()
		}
		if now := other.c.View().Terms[key]; now.Owner != shut.c.self || shut.c.View().State != member.Participant {
			t.Errorf("after it is %s, and the node %v", now.Owner.Short(), shut.c.View().State)
		}
		for _, h := range hosts {
			h.c.Reached(false)
		}
		report()
		report()
		owners := slices.DeleteFunc(slices.Clone(hosts), func(h *fakeHost) bool { return h.c.View().Claims == 0 })
		if len(owners) != 1 {
			t.Errorf("where no node is reached %d plan for it", len(owners))
		}
	})
}
