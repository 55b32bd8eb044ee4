package plan

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

func at(d time.Duration) time.Time { return time.Unix(1e9, 0).Add(d) }

// crew is a service in a test: replicas that serve, and when the others will.
type crew struct {
	s     Scaler
	r     Rules
	now   time.Duration
	dt    time.Duration
	cores float64
	ready int
	start []time.Duration
	ours  int // of all
	room  float64
}

func newCrew(axis Axis, dt time.Duration) *crew {
	r := usualRules()
	r.Axis = axis
	return &crew{r: r, dt: dt, cores: 1, ready: 2, ours: 2, room: 1e3}
}

func (c *crew) seen(demand float64) *Seen {
	for len(c.start) > 0 && c.start[0] <= c.now {
		c.ready++
		c.start = c.start[1:]
	}
	n := c.ready + len(c.start)
	f := fleetOf(c.cores, HostState{Cores: c.room, Memory: knowledge.TiB, Replicas: n, Ours: min(c.ours, n)})
	f.Starting = len(c.start)
	return &Seen{Demand: demand, Service: f}
}

// step lets one step pass and does what the plan says.
func (c *crew) step(seen *Seen) Plan {
	c.now += c.dt
	p := c.s.Step(at(c.now), c.dt, seen, &c.r)
	c.cores = p.Cores
	for n := c.ready + len(c.start); n < p.Replicas; n++ {
		c.start = append(c.start, c.now+c.r.Start)
		c.ours++
	}
	for n := c.ready + len(c.start); n > p.Replicas; n-- {
		if c.ours--; len(c.start) > 0 {
			c.start = c.start[:len(c.start)-1]
			continue
		}
		c.ready--
	}
	return p
}

// demands is a load that jumps, swings and rests.
func demands(t *rapid.T, n int) []float64 {
	var out []float64
	for len(out) < n {
		level, noise := rapid.Float64Range(0, 12).Draw(t, "level"), rapid.Float64Range(0, 0.3).Draw(t, "noise")
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			out = append(out, level*(1+noise*rapid.Float64Range(-1, 1).Draw(t, "x")))
		}
	}
	return out[:n]
}

// TestDelaysNeverReverse, and what goes with it: each step lies between what is
// there and what Choose would have, or is a surge's answer upwards; the pace of
// removals is at most one a minute since the last change or the surplus; no more
// than ours goes; capacity falls only while nothing starts, in calm.
func TestDelaysNeverReverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCrew(Axis(rapid.IntRange(0, 2).Draw(t, "axis")),
			time.Duration(rapid.SampledFrom([]int{2, 10}).Draw(t, "dt"))*time.Second)
		c.r.Together = rapid.IntRange(0, 2).Draw(t, "together")
		c.room = rapid.Float64Range(0, 30).Draw(t, "room")
		var removals []time.Duration
		last := time.Duration(0)
		for _, d := range demands(t, 400) {
			seen := c.seen(d)
			n, cores, ours := seen.Service.Replicas(), c.cores, c.ours
			twin := c.s // by value: what it would say of the outlook
			o := twin.outlook(at(c.now+c.dt), c.dt, seen, &c.r)
			proposal := Choose(&seen.Service, &o, &c.r)
			p := c.step(seen)
			surge := p.Reason.Rule == knowledge.RuleReplicasSurge
			checkPlan(t, &seen.Service, &c.r, &p)
			if !surge && !between(float64(p.Replicas), float64(n), float64(proposal.Replicas)) || !surge &&
				!between(p.Cores, cores, proposal.Cores) {
				t.Fatalf("from %d×%g towards %+v it went to %+v (%v)", n, cores, proposal.Size, p.Size, p.Reason)
			}
			if surge && (p.Replicas < n || p.Cores < cores) {
				t.Fatalf("a surge made it smaller: %+v", p.Size)
			}
			if p.Replicas < n || p.Cores < cores {
				if seen.Service.Starting > 0 {
					t.Fatal("smaller while replicas start")
				}
				if now := at(c.now); now.Before(c.s.panics) || !c.s.surged.IsZero() && now.Sub(c.s.surged) < scaleInCalm {
					t.Fatal("smaller in a panic or before a minute of calm")
				}
			}
			if gone := n - p.Replicas; gone > 0 {
				if gone > ours || c.r.Together > 0 && gone > c.r.Together || time.Duration(gone)*scaleInEvery > c.now-last {
					t.Fatalf("%d went %v after the last change", gone, c.now-last)
				}
				removals = append(removals, c.now)
				if k := len(removals); c.r.Together == 1 && k > 1 && removals[k-1]-removals[k-2] < time.Minute {
					t.Fatal("two within a minute")
				}
			}
			if p.Replicas != n {
				last = c.now
			}
		}
	})
}

func between(x, a, b float64) bool { return x >= min(a, b)-1e-9 && x <= max(a, b)+1e-9 }

// TestNoCountChangesWhileMetricsMiss, nor anything else.
func TestNoCountChangesWhileMetricsMiss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCrew(AxisBoth, 10*time.Second)
		for _, d := range demands(t, 100) {
			seen := c.seen(d)
			was := Size{seen.Service.Replicas(), c.cores}
			if rapid.Bool().Draw(t, "missing") {
				seen.Missing = rapid.IntRange(1, was.Replicas).Draw(t, "replicas")
			} else if rapid.Bool().Draw(t, "absurd") {
				seen.Demand = rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1}).Draw(t, "demand")
			} else {
				c.step(seen)
				continue
			}
			if p := c.step(seen); p.Size != was {
				t.Fatalf("%+v became %+v", was, p.Size)
			}
		}
	})
}

// TestHighestOfFiveMinutes against a list of everything: what the window forgets
// is at least 5 min old, and at most a slot more.
func TestHighestOfFiveMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h highest
		type mark struct {
			at time.Duration
			v  float64
		}
		var all []mark
		now := time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			now += time.Duration(rapid.IntRange(1, 60_000).Draw(t, "ms")) * time.Millisecond
			v := rapid.Float64Range(0, 10).Draw(t, "v")
			all = append(all, mark{now, v})
			h.add(at(now), v)
			short, long := 0.0, 0.0
			for _, m := range all {
				if now-m.at <= scaleInWindow-time.Millisecond {
					short = max(short, m.v)
				}
				if now-m.at <= scaleInWindow+scaleInWindow/highestSlots {
					long = max(long, m.v)
				}
			}
			if got := h.max(at(now)); got < short || got > long {
				t.Fatalf("%g, want %g to %g", got, short, long)
			}
		}
	})
}

// TestHighestNeedDecides: nothing goes within 5 min of a need for all of it.
func TestHighestNeedDecides(t *testing.T) {
	c := newCrew(AxisHorizontal, 2*time.Second)
	for range 100 {
		c.step(c.seen(5))
	}
	n, fell := c.ready, c.now
	for c.now < fell+299*time.Second {
		if p := c.step(c.seen(0.5)); p.Replicas < n {
			t.Fatalf("%d of %d went %v after the load", n-p.Replicas, n, c.now-fell)
		}
	}
	for c.now < fell+500*time.Second {
		c.step(c.seen(0.5))
	}
	if c.ready != 1 {
		t.Errorf("%d are left", c.ready)
	}
}

// TestVerticalFirst: in a surge the replicas that are there get more at once;
// where their host cannot give enough, new ones start in the same step.
func TestVerticalFirst(t *testing.T) {
	for _, x := range []struct {
		name  string
		room  float64
		surge float64
		ok    func(p Plan) bool
	}{
		{"room", 100, 4, func(p Plan) bool { return p.Replicas == 2 && p.Cores >= 4/0.9/2 }},
		{"no room for larger ones", 0.5, 4, func(p Plan) bool {
			return p.Cores > 1 ||
				p.Reason.Rule == knowledge.RuleReplicasFull
		}},
		{"beyond the largest size", 100, 30, func(p Plan) bool { return p.Cores == 8 && p.Replicas > 2 }},
	} {
		c := newCrew(AxisBoth, 2*time.Second)
		c.room = x.room
		for range 30 {
			c.step(c.seen(1.2))
		}
		if p := c.step(c.seen(x.surge)); !x.ok(p) {
			t.Errorf("%s: %+v, %v", x.name, p.Size, p.Reason)
		}
	}
}

// TestForecastStartsReplicas: a trusted bound beyond what is there starts them at
// once; the same bound without trust does nothing; a low one lowers nothing.
func TestForecastStartsReplicas(t *testing.T) {
	for _, x := range []struct {
		ahead Ahead
		more  bool
	}{{Ahead{Start: 6, Calm: 6, Trusted: true}, true}, {Ahead{Start: 6, Calm: 6}, false}, {Ahead{Trusted: true}, false}} {
		c := newCrew(AxisHorizontal, 2*time.Second)
		for range 30 {
			c.step(c.seen(1.2))
		}
		seen := c.seen(1.2)
		seen.Forecast = x.ahead
		if p := c.step(seen); (p.Replicas > 2) != x.more || p.Replicas < 2 {
			t.Errorf("%+v: %+v, %v", x.ahead, p.Size, p.Reason)
		}
	}
}

// TestCensored: a full fleet without a work signal doubles after two steps.
func TestCensored(t *testing.T) {
	c := newCrew(AxisHorizontal, 2*time.Second)
	for range 30 {
		c.step(c.seen(1))
	}
	var p Plan
	for range 2 {
		seen := c.seen(2)
		seen.Censored = true
		p = c.step(seen)
	}
	if p.Replicas < 5 {
		t.Errorf("%+v, %v", p.Size, p.Reason)
	}
}

// TestLevel: a jump shows at its reading, noise does not, and nonsense is ignored.
func TestLevel(t *testing.T) {
	var l Level
	for i := range 300 {
		if l.Observe(1+0.15*math.Sin(float64(i*i)), 2*time.Second) != 0 && i > 10 {
			t.Fatalf("noise taken for a jump at %d", i)
		}
	}
	l.Observe(math.NaN(), time.Second)
	l.Observe(-1, time.Second)
	if m := l.Mean(); math.Abs(m-1) > 0.05 {
		t.Errorf("mean %g", m)
	}
	if l.Observe(3, 2*time.Second) != 1 || l.Mean() != 3 {
		t.Errorf("no jump: %g", l.Mean())
	}
}

func BenchmarkScaler(b *testing.B) {
	c := newCrew(AxisHorizontal, 2*time.Second)
	for b.Loop() {
		c.step(c.seen(1.2))
	}
}

// TestWhatASmallerFleetWaitsFor: each wait by itself, and none.
func TestWhatASmallerFleetWaitsFor(t *testing.T) {
	calm := func() Scaler { return Scaler{surplus: at(-time.Hour), changed: at(-time.Hour)} }
	for _, x := range []struct {
		name     string
		set      func(s *Scaler, f *ServiceState)
		replicas int
		why      knowledge.Rule
	}{
		{"nothing", func(*Scaler, *ServiceState) {}, 1, knowledge.RuleReplicasLess},
		{"a panic", func(s *Scaler, _ *ServiceState) { s.panics = at(time.Second) }, 3, knowledge.RuleReplicasPanic},
		{"calm", func(s *Scaler, _ *ServiceState) { s.surged = at(-59 * time.Second) }, 3, knowledge.RuleReplicasCalm},
		{"calm enough", func(s *Scaler, _ *ServiceState) { s.surged = at(-time.Minute) }, 1, knowledge.RuleReplicasLess},
		{"what starts", func(_ *Scaler, f *ServiceState) { f.Starting = 1 }, 3, knowledge.RuleReplicasStart},
		{"the pace", func(s *Scaler, _ *ServiceState) { s.changed = at(-61 * time.Second) }, 2, knowledge.RuleReplicasPace},
	} {
		f, r, s := fleetOf(1, HostState{Cores: 9, Replicas: 3, Ours: 3}), usualRules(), calm()
		x.set(&s, &f)
		c := chooser{f: &f, o: &Outlook{}, r: &r, now: Size{3, 1}}
		proposal := c.hold(knowledge.Because(knowledge.RuleReplicasLess))
		proposal.Size, proposal.On = Size{1, 1}, []int{1}
		p := s.settle(at(0), &c, proposal)
		if p.Replicas != x.replicas || p.On[0] != x.replicas || x.replicas != 2 && p.Reason.Rule != x.why {
			t.Errorf("%s: %+v, %v", x.name, p.Size, p.Reason)
		}
		if last := len(p.Rejected) - 1; p.Size != proposal.Size && (last < 0 || p.Rejected[last].Reason.Rule != x.why) {
			t.Errorf("%s: the wish is not among the rejected: %+v", x.name, p.Rejected)
		}
	}
}
