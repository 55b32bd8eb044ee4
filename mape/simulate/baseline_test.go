package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge/history"
)

// given plays demand to a policy that is always obeyed at once, and returns what
// it wants after each step.
func given(p Policy, dt time.Duration, demand ...float64) []Want {
	s := Seen{Dt: dt, Cores: 1, Memory: 1 << 30, Ready: 1}
	var out []Want
	for i, d := range demand {
		s.Step, s.At, s.Usage, s.Demand = i+1, time.Duration(i+1)*dt, d, d
		w := p.Decide(&s)
		if w.Cores > 0 {
			s.Cores = w.Cores
		}
		if w.Replicas > 0 {
			s.Ready = w.Replicas
		}
		out = append(out, w)
	}
	return out
}

func repeat(v float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func near(a, b float64) bool { return math.Abs(a-b) <= 0.051*b } // a bucket of 5 %

func TestLastmax(t *testing.T) {
	got := given(resized{sizer: newLastmax()}, 20*time.Minute, 1, 3, 2, 1, 0.5, 0.5)
	for i, want := range []float64{1, 3, 3, 3, 2, 1} { // the 3 is gone after an hour
		if got[i].Cores != want {
			t.Errorf("after step %d %g cores, want %g", i, got[i].Cores, want)
		}
	}
}

func TestStatic(t *testing.T) {
	got := given(resized{sizer: &static{}}, 12*time.Hour, 1, 3, 5, 1)
	for i, want := range []float64{1, 3, 3, 3} { // the 5 comes after the first day
		if got[i].Cores != want {
			t.Errorf("after step %d %g cores, want %g", i, got[i].Cores, want)
		}
	}
}

func TestTargetTracking(t *testing.T) {
	got := given(resized{sizer: newTracking(0.6)}, 100*time.Second, 0.6, 1.2, 0.6, 0.6, 0.6)
	for i, want := range []float64{1, 2, 2, 2, 1} { // up at once, down after 300 s
		if math.Abs(got[i].Cores-want) > 1e-9 {
			t.Errorf("after step %d %g cores, want %g", i, got[i].Cores, want)
		}
	}
}

// Steps as long as the sync period, so that each is one look: the examples of the
// documentation's formula, ⌈replicas · metric/target⌉.
func TestHPA(t *testing.T) {
	p := newHPA(Options{Target: 0.5, Min: 1, Max: 20})
	got := given(p, 15*time.Second,
		0.5,  // on target
		1,    // twice the target: 2
		1.09, // 1.09 of it: within the tolerance
		5,    // 10, but not more than 4 or double: 6
		5,    // the rest: 10
		1, 1) // down waits for 300 s
	for i, want := range []int{0, 2, 0, 6, 10, 0, 0} {
		if got[i].Replicas != want {
			t.Errorf("after step %d %d replicas, want %d", i, got[i].Replicas, want)
		}
	}
	down := given(newHPA(Options{Target: 0.5, Min: 1, Max: 20}), 15*time.Second, append([]float64{2}, repeat(1, 30)...)...)
	for i, w := range down {
		if i >= 1 && w.Replicas == 2 {
			if at := time.Duration(i) * 15 * time.Second; at < 300*time.Second || at > 330*time.Second {
				t.Errorf("shrinks %s after the last need, not after 300 s", at)
			}
			return
		}
	}
	t.Error("never shrinks")
}

// What is starting counts as idle when more is asked for: 4 cores of demand at 1
// of 4 that serve are 8 at a target of a half, and not 32.
func TestHPACountsWhatStarts(t *testing.T) {
	p := newHPA(Options{Target: 0.5, Min: 1, Max: 20})
	p.metric = 4
	if n := p.desired(&Seen{Cores: 1, Ready: 1, Starting: 3}); n != 8 {
		t.Errorf("%d replicas, want 8", n)
	}
}

func TestKPA(t *testing.T) {
	o := Options{Target: 0.5, Min: 1, Max: 50}
	got := given(newKPA(o, 0), 2*time.Second, append(repeat(0.5, 30), 5, 5, 5)...)
	// A panic: the mean of 6 s is 2, then 3.5, then 5, so 4, 7 and 10 replicas.
	for i, want := range []int{4, 7, 10} {
		if n := got[30+i].Replicas; n != want {
			t.Errorf("%d s into the surge %d replicas, want %d", 2*i, n, want)
		}
	}
	// It ends 60 s after the last of its signs, and then halves at most.
	after := given(newKPA(o, 0), 2*time.Second, append(append(repeat(0.5, 30), repeat(5, 3)...), repeat(0.5, 120)...)...)
	held, first := 0, 0
	for _, w := range after[33:] {
		if w.Replicas < 10 {
			first = w.Replicas
			break
		}
		held++
	}
	if s := held * 2; s < 56 || s > 64 || first != 5 {
		t.Errorf("held for %d s, then %d replicas", s, first)
	}
}

func TestVPA(t *testing.T) {
	// A day of 1 core, one sample a minute: p90 is 1, and 15 % on top.
	p := newVPA(false)
	got := given(resized{sizer: p}, time.Minute, repeat(1, 1440)...)
	if v := got[1439].Cores; !near(v, 1.15) {
		t.Errorf("%g cores for a steady 1, want 1.15", v)
	}
	// Little use gets the least recommendation.
	if v := given(resized{sizer: newVPA(false)}, time.Minute, repeat(0.001, 10)...)[9].Cores; v != 0.025 {
		t.Errorf("%g cores, want 0.025", v)
	}
	// Memory: the day's peak, and after an OOM kill a step up from the limit.
	m := newVPA(true)
	s := Seen{Dt: time.Minute, At: time.Hour, Demand: 1 << 30, Memory: 1 << 30, Ready: 1, OOM: 1}
	if v := m.size(&s); math.Abs(v-1.15*1.2*(1<<30)) > 1 {
		t.Errorf("%g bytes after an OOM kill at 1 GiB", v)
	}
}

// The confidence: 24 h of samples make the upper bound twice its percentile, and
// the container is left alone between the bounds until 12 h have passed.
func TestVPAWaits(t *testing.T) {
	p := newVPA(false)
	demand := append(repeat(1, 1440), repeat(1.5, 700)...)
	got := given(resized{sizer: p}, time.Minute, demand...)
	before := got[1439].Cores
	for i := 1440; i < len(got); i++ {
		if got[i].Cores != before {
			if wait := p.changed; wait < vpaSettled {
				t.Errorf("changed after %s", wait)
			}
			return
		}
	}
	t.Error("never followed a growth of half")
}

func TestAutopilot(t *testing.T) {
	// By load: 100 steps of 1 core and 10 of 10 are as much work; p95 of load is 10.
	got := given(resized{sizer: newAutopilot(false)}, 5*time.Minute, append(repeat(1, 100), repeat(10, 10)...)...)
	if v := got[109].Cores; !near(v, 11.5) {
		t.Errorf("%g cores, want 11.5", v)
	}
	if v := got[99].Cores; !near(v, 1.15) {
		t.Errorf("%g cores for a steady 1, want 1.15", v)
	}
	// Memory: p98 of the windows' peaks.
	m := newAutopilot(true)
	mem := given(resized{sizer: m, memory: true}, 5*time.Minute, repeat(1<<30, 100)...)
	if v := mem[99].Memory; !near(v, 1.15*(1<<30)) {
		t.Errorf("%g bytes for a steady GiB", v)
	}
}

func TestOriginal(t *testing.T) {
	got := given(&original{}, 5*time.Second, append([]float64{0.5, 0.76}, repeat(2, 61)...)...)
	switch {
	case got[0].Cores != 0 || got[1].Cores != 1.5:
		t.Errorf("%v: half of a core is left alone, 0.76 makes 1.5", got[:2])
	case got[60].Cores != 0 || got[61].Cores != 2.25:
		t.Errorf("%v: the next change after 300 s", got[58:])
	}
	if w := given(&original{}, 5*time.Second, 0.39)[0]; w.Cores != 0.7 {
		t.Errorf("%v at 39 %%, want 0.7", w)
	}
	if w := given(&original{axis: Horizontal}, 5*time.Second, 0.76)[0]; w.Replicas != 2 {
		t.Errorf("%v at 76 %%, want 2 replicas", w)
	}
}

// A quantile by load weighs what is high more: the histogram's own arithmetic.
func TestLoadWeight(t *testing.T) {
	h := history.New(history.Spec{First: 0.01, Buckets: 200, HalfLife: time.Hour})
	h.Add(epoch(0), 1, 9)
	h.Add(epoch(0), 9, 9)
	if q := h.Quantile(0.49); !near(q, 1) {
		t.Errorf("p49 is %g", q)
	}
	if q := h.Quantile(0.51); !near(q, 9) {
		t.Errorf("p51 is %g", q)
	}
}
