package hosts

import (
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// takeover is the goal for a crashed owner at the default timing.
const takeover = 3 * time.Second

// TestJoinFive: five daemons that know one address become one cluster; each of
// them answers for all, and one that was away comes back without its seed.
func TestJoinFive(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().watch()
	for _, h := range f.hosts {
		st, err := h.status()
		if err != nil || st.Cluster == nil {
			t.Fatalf("%s: %v: %+v", h.name(), err, st.Cluster)
		}
		if c := st.Cluster; c.Alive != 5 || !c.Majority || !c.Encrypted || len(c.Hosts) != 5 {
			t.Errorf("%s: %+v", h.name(), c)
		}
	}
	for _, s := range services() {
		owner := f.ownerOf(s)
		for _, b := range f.on(s, f.hosts...) {
			e, err := api.OpExplain.Call(t.Context(), b.host.Client, api.ExplainRequest{Name: b.name})
			if err != nil || e.Owner != owner.name() || len(e.Warm) != 2 || slices.Contains(e.Warm, e.Owner) {
				t.Errorf("%s: owner %q, warm %q, want owner %s and two more: %v", b.name, e.Owner, e.Warm, owner.name(), err)
			}
		}
	}
	f.steady(5*time.Second, "nothing happens")
	seed, other := f.hosts[0], f.hosts[4]
	other.stop()
	seed.stop()
	other.start()
	f.settle(30 * time.Second)
	seed.start()
	f.settle(30 * time.Second)
	f.intact()
}

// TestRow1Row2Row3OwnerKilled kills the owner of one service after the other with
// -9 while the services are under load, and measures how long it takes until every
// other host obeys a living one for all services.
//
// Three starts in a row without an orderly stop are a crash loop, so every return
// has one.
func TestRow1Row2Row3OwnerKilled(t *testing.T) {
	f := newFleet(t, 5).start().watch()
	var took []time.Duration
	for i := range rounds(3, 20) {
		owner := f.ownerOf(services()[i%len(services())])
		others := f.without(owner)
		at := time.Now()
		owner.daemon().kill()
		took = append(took, f.planned(at, 30*time.Second, others...))
		t.Logf("round %d: %s killed, planned for after %v", i+1, owner.name(), took[i].Round(time.Millisecond))
		owner.start()
		owner.stop()
		owner.start()
		f.settle(time.Minute)
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	figure(t, "%d owners killed with -9: planned for by another node after %v (median), %v (worst); the goal is %v",
		len(took), median.Round(10*time.Millisecond), worst.Round(10*time.Millisecond), takeover)
	if worst > takeover {
		t.Errorf("the worst took %v, want %v", worst, takeover)
	}
	f.intact()
}

// TestRow4OwnerStops: an owner that ends in order hands over at once.
func TestRow4OwnerStops(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3).start().watch()
	owner := f.ownerOf("web")
	at := time.Now()
	owner.stop()
	took := f.planned(at, 10*time.Second, f.without(owner)...)
	figure(t, "an owner stopped in order: planned for by another node after %v", took.Round(10*time.Millisecond))
	owner.start()
	f.settle(30 * time.Second)
	f.intact()
}

// TestRow6OwnerFrozen: others take over from a node that stands still; when it goes
// on, what it had decided is refused, and no host goes back to it.
func TestRow6OwnerFrozen(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().watch()
	owner, during := f.ownerOf("web"), 30*time.Second
	was := f.terms()
	at := time.Now()
	owner.freeze()
	took := f.planned(at, 30*time.Second, f.without(owner)...)
	figure(t, "an owner frozen: planned for by another node after %v", took.Round(10*time.Millisecond))
	time.Sleep(during - min(during, time.Since(at))) // it is the fault that lasts
	owner.thaw()
	f.settle(time.Minute) // watch sees every round that goes back
	for _, s := range services() {
		if is, _ := f.agreed(s, f.hosts...); is.round < was[s].round {
			t.Errorf("%s: term %+v after %+v", s, is, was[s])
		}
	}
	f.intact()
}

// TestRow11Flapping: a node that comes and goes loses what it owns and does not
// get it back each time.
func TestRow11Flapping(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().watch()
	flapping := f.ownerOf("web")
	others := f.without(flapping)
	was := f.terms()
	first := was["web"].round
	// Rounds alone are no changes of an owner: who is alone plans for its own host, and
	// its return leads the others' owner two rounds up.
	changed := map[string]int{}
	look := func(during time.Duration) {
		for until := time.Now().Add(during); time.Now().Before(until); time.Sleep(250 * time.Millisecond) {
			for _, s := range services() {
				is, ok := f.agreed(s, others...)
				if ok && is.owner != was[s].owner {
					changed[s]++
				}
				if ok {
					was[s] = is
				}
			}
		}
	}
	for range 6 {
		rig.net.isolate(flapping.n)
		look(10 * time.Second)
		rig.net.heal()
		look(10 * time.Second)
	}
	f.planned(time.Now(), 20*time.Second, others...)
	look(time.Second)
	risen := was["web"].round - first
	figure(t, "a node that was cut off six times for 10 s: changes of a service's owner %v, %d rounds", changed, risen)
	if risen > 6*3 { // away, led up, and back
		t.Errorf("the term of web rose by %d rounds", risen)
	}
	for s, n := range changed {
		if n > 6 { // away and back each time were 12
			t.Errorf("ownership of %s flapped with the node: %d changes", s, n)
		}
	}
	f.together(3*time.Minute, f.hosts...)
	f.intact()
}
