package hosts

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// majority waits until a host says that it sees one, or none.
func (f *fleet) majority(h *host, want bool) {
	f.t.Helper()
	eventually(f.t, 20*time.Second, h.name()+" knows on which side it is", func() bool {
		m, err := h.members()
		return err == nil && m.Majority == want
	})
}

// voting waits until all hosts are in one list of voters: before, each counts from itself.
func (f *fleet) voting() *fleet {
	f.t.Helper()
	members := fmt.Sprintf(`"members":%d,`, len(f.hosts))
	eventually(f.t, 2*time.Minute, "all are voters", func() bool {
		for _, h := range f.hosts {
			if !slices.ContainsFunc(strings.Split(string(h.log()), "\n"), func(line string) bool {
				return strings.Contains(line, "voter list changed") && strings.Contains(line, members)
			}) {
				return false
			}
		}
		return true
	})
	return f
}

// parted splits the fleet, and checks that each side goes on with one owner a
// service among itself and knows whether it is the greater; then it heals.
func (f *fleet) parted(a, b []*host, largerA bool) {
	t := f.t
	t.Helper()
	number := func(hs []*host) (ns []int) {
		for _, h := range hs {
			ns = append(ns, h.n)
		}
		return ns
	}
	before := f.cost(10 * time.Second)
	at := time.Now()
	rig.net.split(number(a), number(b))
	for _, h := range a {
		f.majority(h, largerA)
	}
	for _, h := range b {
		f.majority(h, false)
	}
	for _, side := range [][]*host{a, b} {
		took := f.planned(at, 30*time.Second, side...)
		t.Logf("a side of %d is planned for after %v", len(side), took.Round(100*time.Millisecond))
	}
	st, err := b[0].status()
	if err != nil || !st.Degraded {
		t.Errorf("the lesser side does not say that it is one: %v, problems %q", err, st.Problems)
	}
	f.quiet(before)
	// The reflex needs nobody.
	f.demand(b[0])
	was := map[string]uint64{}
	for _, s := range services() {
		for _, side := range [][]*host{a, b} {
			is, _ := f.agreed(s, side...)
			was[s] = max(was[s], is.round)
		}
	}
	rig.net.heal()
	took := f.together(time.Minute, f.hosts...)
	figure(t, "%d|%d healed: one cluster with one owner a service after %v", len(a), len(b),
		took.Round(100*time.Millisecond))
	for s, is := range f.terms() {
		if is.round < was[s] {
			t.Errorf("%s: round %d after healing, and a side had %d", s, is.round, was[s])
		}
	}
	f.steady(10*time.Second, "after healing")
}

// cost is the CPU that each daemon uses, in cores.
func (f *fleet) cost(during time.Duration) map[*host]float64 {
	f.t.Helper()
	used := map[*host]float64{}
	for _, h := range f.running() {
		used[h] = -h.cpu().Seconds()
	}
	time.Sleep(during) // it is measured over a time
	for h := range used {
		used[h] = (used[h] + h.cpu().Seconds()) / during.Seconds()
	}
	return used
}

// quiet checks that sides that do not see each other do not fight: nothing is taken
// over, no term refused, and no daemon works more than it did.
func (f *fleet) quiet(before map[*host]float64) {
	t := f.t
	t.Helper()
	fights := func() (all float64) {
		for h := range before {
			all += h.metric("effiscale_cluster_takeovers_total") + h.metric("effiscale_cluster_terms_refused_total")
		}
		return all
	}
	// A side sees the members of the other go one by one, for up to ten seconds.
	was, since := fights(), time.Now()
	eventually(t, 45*time.Second, "each side has found its owners", func() bool {
		if is := fights(); is != was {
			was, since = is, time.Now()
		}
		return time.Since(since) > 8*time.Second
	})
	now, sum, sumWas := f.cost(15*time.Second), 0.0, 0.0
	if is := fights(); is != was || was == 0 {
		t.Errorf("takeovers and refused terms: %v, and %v 15 s later", was, is)
	}
	for h, cores := range now {
		sum, sumWas = sum+cores, sumWas+before[h]
		if cores > 1.5*before[h]+0.01 {
			t.Errorf("%s uses %.3f cores while the cluster is parted, and used %.3f before", h.name(), cores, before[h])
		}
	}
	figure(t, "parted: the daemons use %.1f %% of a core each, before it was %.1f %%", 100*sum/float64(len(now)), 100*sumWas/float64(len(now)))
}

// demand checks that a host still gives a container what it needs: a person takes
// CPU away, and the reflex gives it back.
func (f *fleet) demand(h *host) {
	f.t.Helper()
	b := f.on("web", h)[0]
	was := b.kernel.Quota()
	stdout, err := h.run("scale", b.name, "--cpu", "0.05")
	if err != nil {
		f.t.Fatalf("cannot take CPU away: %v: %s", err, stdout)
	}
	if stdout, err = h.run("resume", h.name()+"/"+b.name); err != nil && !strings.Contains(stdout, "not paused") {
		f.t.Fatalf("resume: %v: %s", err, stdout)
	}
	eventually(f.t, 40*time.Second, "the reflex of "+h.name()+" acts without the others", func() bool {
		return b.kernel.Quota() > 0.055
	})
	f.t.Logf("%s: %v cores, taken to 0.05, and back at %v", b.name, was, b.kernel.Quota())
}

// TestRow7Row8Partition: three against two, and back.
func TestRow7Row8Partition(t *testing.T) {
	f := newFleet(t, 5).start().voting().watch()
	owner := f.ownerOf("web") // on the lesser side
	others := f.without(owner)
	f.parted(others[:3], []*host{owner, others[3]}, true)
	f.intact()
}

// TestRow7Row8EvenSplit: of two halves none is greater.
func TestRow7Row8EvenSplit(t *testing.T) {
	needAll(t)
	f := newFleet(t, 4).start().voting().watch()
	f.parted(f.hosts[:2], f.hosts[2:], false)
	f.intact()
}

// TestRow7OwnerCutOff: the owner's host loses its cable, and finds its way back.
func TestRow7OwnerCutOff(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().voting().watch()
	owner := f.ownerOf("shop")
	at := time.Now()
	owner.unplug()
	took := f.planned(at, 30*time.Second, f.without(owner)...)
	figure(t, "an owner's cable pulled: planned for by another node after %v", took.Round(10*time.Millisecond))
	f.majority(owner, false)
	f.demand(owner)
	owner.plug()
	f.together(time.Minute, f.hosts...)
	f.steady(10*time.Second, "after the return")
	f.intact()
}

// TestRow9OneWay: an owner that hears nobody, and one that nobody hears. Either
// may lose its services, once; nothing swings, and afterwards all is well.
func TestRow9OneWay(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().watch()
	for _, deaf := range []bool{true, false} {
		owner := f.ownerOf("web")
		others := f.without(owner)
		was := f.terms()
		for _, h := range others {
			from, to := h.n, owner.n
			if !deaf {
				from, to = to, from
			}
			rig.net.cut([]int{from}, []int{to})
		}
		at := time.Now()
		took := f.planned(at, 30*time.Second, others...)
		hold(t, 20*time.Second, "the others are planned for by one of them, and nothing swings", func() bool {
			for _, s := range services() {
				if is, ok := f.agreed(s, others...); ok && is.round > was[s].round+2 {
					return false
				}
			}
			return true
		})
		rig.net.heal()
		f.together(time.Minute, f.hosts...)
		figure(t, "one-way link (owner deaf: %v): the others are planned for after %v", deaf, took.Round(10*time.Millisecond))
	}
	f.steady(10*time.Second, "after healing")
	f.intact()
}

// TestRow10Loss: packets that are lost or late are no reason to change an owner.
func TestRow10Loss(t *testing.T) {
	needAll(t)
	for _, c := range []struct {
		name          string
		loss          float64
		delay, jitter time.Duration
	}{
		{"30 % lost", 0.3, 0, 0},
		{"30 % lost, round trips of 300 ms ± 200 ms", 0.3, 150 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t, 5).start().watch()
			rig.net.spoil(c.loss, c.delay, c.jitter)
			f.steady(time.Minute, c.name)
			rig.net.heal()
			f.settle(30 * time.Second)
			f.intact()
		})
	}
}

// TestRow74Starved: daemons that get a tenth of a core, or hardly anything, doubt
// themselves, not the others.
func TestRow74Starved(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().watch()
	for _, share := range []float64{0.1, 0.03} {
		var before, after int64
		for _, h := range f.hosts[1:4] {
			before += h.starved()
			h.throttle(share)
		}
		f.steady(time.Minute, fmt.Sprintf("three of five at %g cores", share))
		for _, h := range f.hosts[1:4] {
			after += h.starved()
			h.unthrottle()
		}
		figure(t, "three of five daemons at %g cores for a minute: held back %d times, no change of an owner", share, after-before)
	}
	f.settle(30 * time.Second)
	f.intact()
}
