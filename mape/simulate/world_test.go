package simulate

import (
	"math"
	"slices"
	"testing"
	"time"
)

// scripted wants what it is told to, step after step.
type scripted struct {
	wants []Want
	seen  []Seen
}

func (p *scripted) Decide(s *Seen) Want {
	p.seen = append(p.seen, *s)
	if len(p.wants) == 0 {
		return Want{}
	}
	w := p.wants[0]
	p.wants = p.wants[1:]
	return w
}

func replay(unit Unit, values []float64, o Options, wants ...Want) (*Series, *scripted) {
	p := &scripted{wants: wants}
	return Run(&Trace{Unit: unit, Step: 2 * time.Second, Values: values}, p, o), p
}

// What is decided on the reading of 0 s serves from 10 s on: five steps of 2 s.
func TestReplicasServeAfterTheirStart(t *testing.T) {
	o := Defaults()
	s, _ := replay(UnitCores, repeat(2.5, 9), o, Want{Replicas: 3}, Want{}, Want{Replicas: 4}, Want{Replicas: 2})
	if want := []int32{1, 1, 1, 1, 1, 2, 2, 2, 2}; !slices.Equal(s.Replicas, want) {
		t.Errorf("serve %v, want %v", s.Replicas, want)
	}
	if want := []float64{1, 3, 3, 4, 2, 2, 2, 2, 2}; !slices.Equal(s.Reserved, want) {
		t.Errorf("reserved %v, want %v", s.Reserved, want)
	}
	if want := []int8{0, 1, 0, 1, -1, 0, 0, 0, 0}; !slices.Equal(s.Moves, want) {
		t.Errorf("moves %v, want %v", s.Moves, want)
	}
	if score := Judge(s, o); score.Changes != 3 || score.Reversals != 1 || score.Under != 1 {
		t.Errorf("%+v", score)
	}
}

// A policy sees the step before, and what is in force now.
func TestSeen(t *testing.T) {
	_, p := replay(UnitCores, []float64{0.5, 3, 1}, Defaults(), Want{Cores: 2})
	for i, want := range []Seen{
		{Step: 1, At: 2 * time.Second, Usage: 0.5, Demand: 0.5, Cores: 1, Ready: 1},
		{Step: 2, At: 4 * time.Second, Usage: 2, Demand: 3, Censored: true, Throttle: 1, Cores: 2, Ready: 1},
	} {
		want.Dt = 2 * time.Second
		if p.seen[i] != want {
			t.Errorf("saw %+v, want %+v", p.seen[i], want)
		}
	}
}

// What needs more memory than the limit is killed; no more than the limit is seen
// of it. The first step is nobody's fault.
func TestOOM(t *testing.T) {
	const gib = float64(1 << 30)
	s, p := replay(UnitBytes, []float64{20 * gib, gib, 2 * gib, gib}, Defaults(), Want{Memory: 1.5 * gib})
	if s.OOM != 1 || p.seen[2].OOM != 1 || p.seen[2].Demand != 1.5*gib || p.seen[2].Memory != 1.5*gib {
		t.Errorf("%d kills, saw %+v", s.OOM, p.seen[2])
	}
	if score := Judge(s, Defaults()); score.OOMKills != 1 || score.Latency != nil || score.Replicas != nil {
		t.Errorf("%+v", score)
	}
}

// Nothing beyond the host, the bounds or the kernel's least, and what is no number
// changes nothing.
func TestBounds(t *testing.T) {
	o := Defaults()
	o.HostCores, o.Max, o.StartDelay = 4, 6, 0
	s, _ := replay(UnitCores, repeat(1, 7), o, Want{Replicas: 100}, Want{Replicas: -3}, Want{Cores: math.NaN()},
		Want{Cores: math.Inf(1)}, Want{Cores: 100}, Want{Cores: 1e-9})
	if want := []float64{1, 4, 4, 4, 4, 4, 0.04}; !slices.Equal(s.Reserved, want) {
		t.Errorf("reserved %v, want %v", s.Reserved, want)
	}
}

// A spike of 5 for 5 min, covered when nothing is short any more.
func TestSpike(t *testing.T) {
	demand := append(append(repeat(1, 200), repeat(5, 150)...), repeat(1, 50)...)
	if at := firstSpike(demand, 2); at != 200 {
		t.Errorf("spike in step %d, want 200", at)
	}
	if at := firstSpike(repeat(1, 500), 2); at != -1 {
		t.Errorf("spike in step %d of a flat trace", at)
	}
	s := &Series{Demand: demand, Allocated: slices.Clone(demand), step: 2 * time.Second}
	copy(s.Allocated[200:], repeat(1, 7))
	if n := covered(s, 200); n != 7 {
		t.Errorf("covered after %d steps, want 7", n)
	}
	copy(s.Allocated[200:], repeat(1, 150))
	if n := covered(s, 200); n != -1 {
		t.Errorf("covered after %d steps, but it never was", n)
	}
}

// An idle core answers in 10 ms; at 80 % in five times that; what is over capacity
// waits, and is worked off.
func TestQueue(t *testing.T) {
	var q queue
	for range 100 {
		q.pass(0.8, 1, 1, 2)
	}
	if l := q.waits.quantile(0.5); math.Abs(l-0.05) > 0.003 {
		t.Errorf("%g s at 80 %%, want 0.05", l)
	}
	q = queue{}
	q.pass(2, 1, 1, 2) // 2 core-seconds are left over
	q.pass(0, 1, 1, 2)
	if q.backlog != 0 {
		t.Errorf("%g core-seconds left", q.backlog)
	}
	if l := q.waits.quantile(1); l < 1 || l > 2.2 {
		t.Errorf("the worst waited %g s, want about 1 of backlog and 1 of sharing", l)
	}
	if (&waits{}).quantile(0.5) != 0 {
		t.Error("nothing served has no latency")
	}
}

// A generated trace is the same for the same seed, another for another, and looks
// like its name.
func TestGenerate(t *testing.T) {
	for _, shape := range Shapes() {
		one, err := Generate(shape, 4, 1)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Generate(shape, 4, 1)
		other, _ := Generate(shape, 4, 2)
		if !slices.Equal(one.Values, again.Values) || slices.Equal(one.Values, other.Values) || len(one.Values) != 7200 {
			t.Errorf("%s: not the seed's", shape)
		}
		if _, err := Parse(shape, one.Unit, AppendTrace(nil, &one), false); err != nil {
			t.Errorf("%s cannot be read: %v", shape, err)
		}
	}
	mean := func(v []float64) float64 {
		sum := 0.0
		for _, x := range v {
			sum += x
		}
		return sum / float64(len(v))
	}
	step, _ := Generate("step", 3, 1)
	if low, high := mean(step.Values[:1800]), mean(step.Values[1800:3600]); high < 2*low {
		t.Errorf("a step from %g to %g", low, high)
	}
	ramp, _ := Generate("ramp", 3, 1)
	if low, high := mean(ramp.Values[:600]), mean(ramp.Values[4800:]); high < 4*low {
		t.Errorf("a ramp from %g to %g", low, high)
	}
	leak, _ := Generate("leak", 3, 1)
	if leak.Unit != UnitBytes || leak.Values[5399]-leak.Values[0] < 2.8*(128<<20) {
		t.Errorf("a leak from %g to %g", leak.Values[0], leak.Values[5399])
	}
	spike, _ := Generate("spike", 48, 1)
	if at := firstSpike(spike.Values, 2); at < 0 {
		t.Error("no spike in 48 h")
	}
	for _, hours := range []float64{math.NaN(), 0, -1, 1e9} {
		if _, err := Generate("step", hours, 1); err == nil {
			t.Errorf("%g hours of trace", hours)
		}
	}
	if _, err := Generate("square", 1, 1); err == nil {
		t.Error("a square")
	}
}

// On the vertical axis only the host bounds anybody: those who count replicas must
// not lose by a bound that the others do not have.
func TestVerticalHasNoBoundOfReplicas(t *testing.T) {
	trace := Trace{Step: time.Minute, Values: make([]float64, 60)}
	for i := range trace.Values {
		trace.Values[i] = 50
	}
	for _, name := range []string{"hpa", "kpa"} {
		for axis, most := range map[Axis]float64{Vertical: 50, Horizontal: 20} {
			o := Defaults()
			o.Axis = axis
			s := Run(&trace, policy(t, name, &trace, o), o)
			if got := s.Served[len(s.Served)-1]; got != most {
				t.Errorf("%s, %s axis: %g cores served in the end, want %g", name, axis, got, most)
			}
		}
	}
}
