package plan

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

func usualRules() Rules {
	return Rules{Axis: AxisBoth, Least: 1, Most: 20, CoresLeast: 0.1, CoresMost: 8, Target: 0.7, Knee: 0.9, Risk: 0.01,
		Start: 10 * time.Second}
}

func fleetOf(cores float64, sites ...HostState) ServiceState {
	return ServiceState{Cores: cores, Hosts: sites}
}

func drawFleet(t *rapid.T) ServiceState {
	f := ServiceState{Cores: rapid.Float64Range(0.2, 4).Draw(t, "cores"),
		Memory: knowledge.Bytes(rapid.IntRange(0, 2<<30).Draw(t, "memory"))}
	for range rapid.IntRange(1, 4).Draw(t, "hosts") {
		n := rapid.IntRange(0, 4).Draw(t, "replicas")
		f.Hosts = append(f.Hosts, HostState{
			Cores:    rapid.Float64Range(0, 16).Draw(t, "free"),
			Memory:   knowledge.Bytes(rapid.IntRange(0, 8<<30).Draw(t, "free memory")),
			Replicas: n, Ours: rapid.IntRange(0, n).Draw(t, "ours"),
		})
	}
	if f.Replicas() == 0 {
		f.Hosts[0].Replicas = 1
	}
	if f.Starting = rapid.IntRange(0, f.Replicas()-1).Draw(t, "starting"); rapid.Bool().Draw(t, "law") {
		f.Law = Law{Serial: 0.1, Crosstalk: 0.01}
	}
	return f
}

func drawOutlook(t *rapid.T) Outlook {
	o := Outlook{Expected: rapid.Float64Range(0, 20).Draw(t, "expected")}
	o.Sigma = o.Expected * rapid.Float64Range(0, 0.3).Draw(t, "sigma")
	o.Upper = o.Expected + 2*o.Sigma
	o.Out = max(o.Expected/0.7, o.Upper/0.9)
	o.In = o.Out * rapid.Float64Range(1, 3).Draw(t, "in")
	return o
}

// TestChooseKeepsTheRules: bounds, room, ownership, the axis, placement and need.
func TestChooseKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, o, r := drawFleet(t), drawOutlook(t), usualRules()
		r.Axis = Axis(rapid.IntRange(0, 2).Draw(t, "axis"))
		p := Choose(&f, &o, &r)
		checkPlan(t, &f, &r, &p)
		now, g := float64(f.Replicas())*f.Law.Useful(f.Cores), float64(p.Replicas)*f.Law.Useful(p.Cores)
		if g < now*(1-1e-9) && g < max(o.In, o.Out)*(1-1e-9) {
			t.Fatalf("from %g down to %g, %g are needed", now, g, o.In)
		}
		if q := Choose(&f, &o, &r); q.Size != p.Size {
			t.Fatal("the same question, another answer")
		}
		seen := map[Size]bool{p.Size: true}
		for _, x := range p.Rejected {
			if x.Reason.IsZero() || seen[x.Size] {
				t.Fatalf("%+v is rejected without a reason, twice, or though chosen", x)
			}
			seen[x.Size] = true
		}
	})
}

// checkPlan holds a plan against what must never be.
func checkPlan(t *rapid.T, f *ServiceState, r *Rules, p *Plan) {
	t.Helper()
	n, sum := f.Replicas(), 0
	if p.Reason.IsZero() || len(p.On) != len(f.Hosts) {
		t.Fatalf("no reason or placement: %+v", p)
	}
	for i, on := range p.On {
		s := &f.Hosts[i]
		sum += on
		if s.Replicas-on > s.Ours {
			t.Fatalf("removes %d of site %d, %d are ours", s.Replicas-on, i, s.Ours)
		}
		more := float64(on)*p.Cores - float64(s.Replicas)*f.Cores
		if (on > s.Replicas || p.Cores > f.Cores) && more > s.Cores+1e-6 {
			t.Fatalf("site %d has %g cores free, the plan takes %g", i, s.Cores, more)
		}
		if on > s.Replicas && knowledge.Bytes(on-s.Replicas)*f.Memory > s.Memory {
			t.Fatalf("site %d has no memory for %d more", i, on-s.Replicas)
		}
	}
	if sum != p.Replicas {
		t.Fatalf("%d are placed of %d", sum, p.Replicas)
	}
	switch {
	case r.Axis == AxisVertical && p.Replicas != n, r.Axis == AxisHorizontal && p.Cores != f.Cores:
		t.Fatalf("the axis %d is left: %+v", r.Axis, p.Size)
	case p.Replicas != n && (p.Replicas > r.Most || p.Replicas < r.Least):
		t.Fatalf("%d replicas are out of bounds", p.Replicas)
	case p.Cores > f.Cores && p.Cores > r.CoresMost+1e-9 || p.Cores < f.Cores && p.Cores < r.CoresLeast:
		t.Fatalf("%g cores are out of bounds", p.Cores)
	}
}

func TestChooseCases(t *testing.T) {
	wide := HostState{Name: "a", Cores: 32, Memory: 64 * knowledge.GiB, Replicas: 2, Ours: 2}
	need := func(v float64) Outlook { return Outlook{Expected: v * 0.7, Upper: v * 0.7, Out: v, In: v} }
	for _, c := range []struct {
		name string
		axis Axis
		law  Law
		site HostState
		need float64
		ok   func(p Plan) bool
		why  knowledge.Rule
	}{
		{"fits", AxisBoth, Law{}, wide, 1.95, func(p Plan) bool { return p.Size == Size{2, 1} }, knowledge.RuleReplicasFit},
		{"more, by count", AxisHorizontal, Law{}, wide, 6.5, func(p Plan) bool { return p.Size == Size{7, 1} },
			knowledge.RuleReplicasMore},
		{"more, by size", AxisVertical, Law{}, wide, 2.9, func(p Plan) bool { return p.Size == Size{2, 1.5} },
			knowledge.RuleReplicasMore},
		{"one thread: only a count helps", AxisBoth, Law{Parallel: 1}, wide, 3.5,
			func(p Plan) bool { return p.Replicas >= 4 && p.Cores <= 1 }, knowledge.RuleReplicasMore},
		{"less", AxisHorizontal, Law{}, wide, 0.8, func(p Plan) bool { return p.Size == Size{1, 1} },
			knowledge.RuleReplicasLess},
		{"not ours", AxisHorizontal, Law{}, HostState{Cores: 32, Replicas: 2}, 0.8,
			func(p Plan) bool { return p.Size == Size{2, 1} }, knowledge.RuleReplicasFit},
		{"full", AxisBoth, Law{}, HostState{Cores: 0, Replicas: 2, Ours: 2}, 5,
			func(p Plan) bool { return p.Size == Size{2, 1} },
			knowledge.RuleReplicasFull},
	} {
		f, r, o := fleetOf(1, c.site), usualRules(), need(c.need)
		f.Law, r.Axis = c.law, c.axis
		p := Choose(&f, &o, &r)
		if !c.ok(p) || p.Reason.Rule != c.why {
			t.Errorf("%s: %+v, %v", c.name, p.Size, p.Reason)
		}
	}
}

// TestSpread: new replicas go where the fewest are and there is room.
func TestSpread(t *testing.T) {
	f := fleetOf(1, HostState{Cores: 9, Replicas: 2}, HostState{Cores: 1}, HostState{Cores: 9})
	on, why := place(&f, Size{6, 1})
	if !why.IsZero() || on[0] != 3 || on[1] != 1 || on[2] != 2 {
		t.Errorf("%v, %v", on, why)
	}
}

// TestConcentration: what is at risk falls when a service stands on more hosts.
func TestConcentration(t *testing.T) {
	f := fleetOf(1, HostState{}, HostState{})
	if one, two := concentration(&f, []int{2, 0}), concentration(&f, []int{1, 1}); one != 2*two || two == 0 {
		t.Errorf("%g, %g", one, two)
	}
}

func TestExceeds(t *testing.T) {
	o := Outlook{Expected: 1, Sigma: 0.1}
	if p := o.exceeds(1.233); math.Abs(p-0.01) > 0.001 {
		t.Errorf("2.33 deviations: %g", p)
	}
	o.Bounds = []Bound{{0.8, 2}, {0.95, 3}, {0.99, 4}}
	for x, want := range map[float64]float64{0.5: 1, 2: 0.2, 3: 0.05, 4: 0.01} {
		if p := o.exceeds(x); math.Abs(p-want) > 1e-6 {
			t.Errorf("P(D > %g) = %g, want %g", x, p, want)
		}
	}
}

func TestChooseRefusesNonsense(t *testing.T) {
	f, o, r := fleetOf(1, HostState{Replicas: 1}), Outlook{Expected: math.NaN()}, usualRules()
	if p := Choose(&f, &o, &r); p.Reason.Rule != knowledge.RuleReplicasInvalid || p.Size != (Size{1, 1}) {
		t.Errorf("%+v", p)
	}
	f.Cores = math.Inf(1)
	if p := Choose(&f, &Outlook{}, &r); p.Reason.Rule != knowledge.RuleReplicasInvalid {
		t.Errorf("%+v", p)
	}
}
