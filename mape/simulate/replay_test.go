package simulate

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// shared reads one of the traces that lie beside the checkout; nil: there are none.
func shared(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "traces", name+".csv"))
	if err != nil {
		return nil
	}
	return b
}

// The peers' own code on synthetic-48h-cpu, 1 to 20 replicas of a core at a
// target of 70 %, serving after 10 s; within 10 %.
func TestPeersFigures(t *testing.T) {
	b := shared(t, "synthetic-48h-cpu")
	if b == nil {
		t.Log("no traces beside the checkout: nothing to compare with")
		return
	}
	trace, err := Parse("synthetic-48h-cpu.csv", UnitCores, b, false)
	if err != nil {
		t.Fatal(err)
	}
	o := Defaults()
	o.Axis = Horizontal
	for _, c := range []struct {
		name                                           string
		p                                              Policy
		changes, reversals, hours, overloaded, covered float64
	}{
		{"Kubernetes HPA 1.37.2", newHPA(o), 11, 6, 87.2, 76, 40},
		{"Knative autoscaler 0.42.2", newKPA(o, 0), 460, 444, 88.1, 40, 14},
		{"the same, 5 min scale-down delay", newKPA(o, 5*time.Minute), 80, 64, 91.1, 32, 14},
	} {
		s := Judge(Run(&trace, c.p, o), o)
		if s.Replicas.Cover == nil {
			t.Fatalf("%s: the spike was never covered", c.name)
		}
		got := [...]float64{float64(s.Changes), float64(s.Reversals), s.Replicas.Hours, s.Replicas.Overloaded,
			*s.Replicas.Cover}
		t.Logf("%s: %.1f", c.name, got)
		for i, want := range [...]float64{c.changes, c.reversals, c.hours, c.overloaded, c.covered} {
			if math.Abs(got[i]-want) > 0.1*want {
				t.Errorf("%s: figure %d is %.1f, the peer's is %.1f", c.name, i, got[i], want)
			}
		}
	}
}

// The examples of the frontier on nab-ec2-cpu-ac20cd come out under this reading:
// the rows of the file as they are, each weighing as long as it is until the next
// (two holes weigh 900 and 1200 s), and the slack between the factors 0.5 · 1.07^i
// on the straight line. Solved exactly the slack is less.
func TestFrontierExamples(t *testing.T) {
	b := shared(t, "nab-ec2-cpu-ac20cd")
	if b == nil {
		t.Log("no traces beside the checkout: nothing to compare with")
		return
	}
	p := parser{name: "nab-ec2-cpu-ac20cd.csv"}
	rows, err := p.rows(b)
	if err != nil {
		t.Fatal(err)
	}
	trace := Trace{Step: 300 * time.Second}
	var weights []float64
	for i, r := range rows {
		trace.Values = append(trace.Values, r.value)
		if i > 0 {
			weights = append(weights, r.seconds-rows[i-1].seconds)
		}
	}
	weights = append(weights, 300)
	for name, want := range map[string][2]float64{
		"lastmax": {0.166, 0.065}, "autopilot": {0.561, 0.128}, "target-tracking": {0.324, 0.080}, "vpa": {1.709, 0.947},
	} {
		s := Run(&trace, policy(t, name, &trace, Defaults()), Defaults())
		f := frontier(s.Demand, s.Allocated, weights)
		for i, shortage := range [...]float64{0.001, 0.01} {
			got, exact := onGrid(f, shortage), f.Solve(shortage)
			t.Logf("%s at %g: %.4f, exact %.4f", name, shortage, got, exact.Slack)
			if math.Abs(got-want[i]) > 0.03*want[i] {
				t.Errorf("%s at %g: slack %.4f, published %.4f", name, shortage, got, want[i])
			}
			if exact.Slack > got+1e-9 {
				t.Errorf("%s at %g: exact %.4f is more than the chord %.4f", name, shortage, exact.Slack, got)
			}
		}
	}
}

func onGrid(f *Frontier, want float64) float64 {
	before := f.At(0.5)
	for k := 0.5; k < 9; k *= 1.07 {
		p := f.At(k)
		if p.Shortage <= want {
			return before.Slack + (before.Shortage-want)/(before.Shortage-p.Shortage)*(p.Slack-before.Slack)
		}
		before = p
	}
	return math.Inf(1)
}

// policy makes a policy by name, EffiScale too.
func policy(t interface{ Fatal(...any) }, name string, trace *Trace, o Options) Policy {
	p, err := New(name, trace, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is in force in a step follows from the steps before it alone: another
// future changes nothing up to the step after which it differs.
func TestFutureIsUnknown(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		unit := Unit(rapid.IntRange(0, 2).Draw(rt, "unit"))
		o := Defaults()
		o.Axis = Axis(rapid.IntRange(0, 2).Draw(rt, "axis"))
		o.StartDelay = time.Duration(rapid.IntRange(0, 30).Draw(rt, "delay")) * time.Second
		step := rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Second, 15 * time.Second, 300 * time.Second}).Draw(rt,
			"step")
		scale := 4.0
		if unit == UnitBytes {
			scale = 4 << 30
		}
		values := rapid.SliceOfN(rapid.Float64Range(0, scale), 8, 120).Draw(rt, "values")
		at := rapid.IntRange(1, len(values)-1).Draw(rt, "at")
		other := slices.Clone(values)
		for i := at; i < len(other); i++ {
			other[i] = rapid.Float64Range(0, 10*scale).Draw(rt, "other")
		}
		for _, name := range append(Baselines(), EffiScale) {
			one := Trace{Unit: unit, Step: step, Values: values}
			if !Knows(name, unit, o.Axis) {
				continue
			}
			two := one
			two.Values = other
			a, b := Run(&one, policy(rt, name, &one, o), o), Run(&two, policy(rt, name, &two, o), o)
			for i := 0; i <= at; i++ {
				if a.Allocated[i] != b.Allocated[i] || a.Reserved[i] != b.Reserved[i] || a.Replicas[i] != b.Replicas[i] {
					rt.Fatalf("%s: step %d had %g, with another future from step %d on %g", name, i, a.Allocated[i], at,
						b.Allocated[i])
				}
			}
			sane(rt, name, a, o)
		}
	})
}

// sane: nothing is served that is not there or not wanted, and no bound is broken.
func sane(t *rapid.T, name string, s *Series, o Options) {
	for i := range s.Demand {
		switch {
		case math.IsNaN(s.Allocated[i]) || s.Allocated[i] <= 0 || math.IsInf(s.Allocated[i], 0):
			t.Fatalf("%s: %g allocated in step %d", name, s.Allocated[i], i)
		case s.Served[i] > s.Demand[i] || s.Served[i] > s.Allocated[i]:
			t.Fatalf("%s: served %g of %g with %g", name, s.Served[i], s.Demand[i], s.Allocated[i])
		case s.Reserved[i] < s.Allocated[i]*(1-tolerance):
			t.Fatalf("%s: %g in force, %g reserved", name, s.Allocated[i], s.Reserved[i])
		case int(s.Replicas[i]) > o.Max || s.Replicas[i] < 1:
			t.Fatalf("%s: %d replicas", name, s.Replicas[i])
		}
	}
}

// A frontier's slack and shortage are those of the scaled series, summed plainly,
// and what is solved for is met.
func TestFrontierTwin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(rt, "n")
		d := rapid.SliceOfN(rapid.Float64Range(0, 5), n, n).Draw(rt, "demand")
		a := rapid.SliceOfN(rapid.Float64Range(0.01, 5), n, n).Draw(rt, "allocated")
		f := frontier(d, a, nil)
		plain := func(k float64) (short, over float64) {
			sum := 0.0
			for i := range d {
				short += max(d[i]-k*a[i], 0)
				over += max(k*a[i]-d[i], 0)
				sum += d[i]
			}
			if sum == 0 {
				return 0, 0
			}
			return short / sum, over / sum
		}
		if slices.Max(d) < 1e-6 {
			return
		}
		k := rapid.Float64Range(LeastScale, MostScale).Draw(rt, "k")
		short, over := plain(k)
		if p := f.At(k); math.Abs(p.Shortage-short) > 1e-6 || math.Abs(p.Slack-over) > 1e-6*(1+over) {
			rt.Fatalf("at %g: %+v, plainly %g %g", k, p, short, over)
		}
		want := rapid.Float64Range(1e-4, 0.3).Draw(rt, "shortage")
		p := f.Solve(want)
		short, _ = plain(p.Scale)
		if p.Reached && math.Abs(short-want) > 1e-6 {
			rt.Fatalf("solved for %g: %+v leaves %g", want, p, short)
		}
		least, _ := plain(LeastScale)
		most, _ := plain(MostScale)
		if !p.Reached && least > want+1e-6 && most < want-1e-6 {
			rt.Fatalf("%g lies between %g and %g, and was not found: %+v", want, least, most, p)
		}
	})
}

// Memory is sized tighter than by Autopilot's p98, and nothing is killed: leaks of
// several seeds, and what is steady, with noise, in steps of seconds and minutes.
func TestMemoryIsTighterThanAutopilot(t *testing.T) {
	steady := func(step time.Duration, n int, noise float64) Trace {
		g := chance{7}
		tr := Trace{Name: "steady", Unit: UnitBytes, Step: step, Values: make([]float64, n)}
		for i := range tr.Values {
			tr.Values[i] = float64(700<<20) * (1 + noise*(g.uniform()-0.5))
		}
		return tr
	}
	traces := []Trace{steady(time.Minute, 2880, 0.02), steady(5*time.Minute, 600, 0.1)}
	for seed := range uint64(3) {
		leak, err := Generate("leak", 30, seed+1)
		if err != nil {
			t.Fatal(err)
		}
		traces = append(traces, leak)
	}
	for i := range traces {
		results, err := Replay(&traces[i], []string{EffiScale, "autopilot"}, Defaults())
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := results[0].Score, results[1].Score
		t.Logf("%s: slack %.3f, Autopilot %.3f; %.0f changes a day, %.0f", traces[i].Name, ours.Slack, theirs.Slack,
			ours.ChangesPerDay, theirs.ChangesPerDay)
		if ours.Reversals > 20 { // a raise is not reverted while a leak grows into it
			t.Errorf("%s: %d changes of direction", traces[i].Name, ours.Reversals)
		}
		if ours.OOMKills > 0 || ours.Slack >= theirs.Slack {
			t.Errorf("%s: %d kills, slack %.3f, Autopilot %.3f", traces[i].Name, ours.OOMKills, ours.Slack, theirs.Slack)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	trace := Trace{Step: 2 * time.Second, Values: make([]float64, 86400)}
	for i := range trace.Values {
		trace.Values[i] = 1 + math.Sin(float64(i)/6875)*0.5
	}
	o := Defaults()
	for _, name := range append(Baselines(), EffiScale) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s := Run(&trace, policy(b, name, &trace, o), o)
				Judge(s, o)
				NewFrontier(s).Solve(0.001)
			}
		})
	}
}
