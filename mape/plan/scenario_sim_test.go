package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// A step of load from 1 to 4 cores under a quota of about 1: wherever the step
// falls in a period, and wherever the samples do, the quota suffices a median of
// 150 ms after the container was first made to wait.
func TestStepOfLoad(t *testing.T) {
	var took []time.Duration
	var worst float64
	for step := range 10 {
		for phase := range 10 {
			h := newWorld(8)
			h.threads, h.quota = 4, 1200*knowledge.OneCPU/1000
			h.phase = time.Duration(phase) * 10 * time.Millisecond
			begin := 12*time.Second + time.Duration(step)*10*time.Millisecond
			h.load = func(at time.Duration) float64 {
				if at < begin {
					return 1
				}
				return 4
			}
			h.run(begin)
			h.onset = 0
			for h.quota < 4*knowledge.OneCPU {
				if h.run(tick); h.at > begin+2*time.Second {
					t.Fatalf("step %d, phase %d: quota %v does not suffice: %v", step, phase, h.quota, h.done)
				}
			}
			took = append(took, h.at-h.onset)
			h.run(3 * time.Second)
			worst = max(worst, h.delayed)
		}
	}
	slices.Sort(took)
	p50, p95, last := took[len(took)/2], took[len(took)*95/100], took[len(took)-1]
	t.Logf("sufficient quota after p50 %v, p95 %v, worst %v; longest queue %.0f ms", p50, p95, last, worst*1000)
	if p50 > 150*time.Millisecond || p95 > 300*time.Millisecond || last > time.Second {
		t.Errorf("sufficient quota after p50 %v, p95 %v, worst %v; want 150ms, 300ms, 1s", p50, p95, last)
	}
}

// near is the loop's cadence: once a second, ten times when it matters.
func near(f *knowledge.Finding, w *knowledge.Window) time.Duration {
	if f.CPU >= knowledge.SymptomTight || f.Memory >= knowledge.SymptomTight ||
		(w.MemoryLimit > 0 && w.WorkingSet > w.MemoryLimit*8/10) {
		return 100 * time.Millisecond
	}
	return time.Second
}

// Memory that grows by 5 MB/s from 64 MiB to 1 GiB is never killed, though a
// reading comes once a second, an update takes 100 ms, and the guards bound a
// step by 1.5.
func TestGrowingMemoryIsNeverKilled(t *testing.T) {
	for _, start := range []knowledge.Bytes{80 * knowledge.MiB, 96 * knowledge.MiB, 128 * knowledge.MiB} {
		h := newWorld(2)
		h.every, h.limit, h.quota = near, start, knowledge.OneCPU
		h.load = func(time.Duration) float64 { return 0.2 }
		h.working = func(at time.Duration) knowledge.Bytes {
			return min(64*knowledge.MiB+knowledge.Bytes(5e6*at.Seconds()), knowledge.GiB)
		}
		for h.at < 4*time.Minute {
			h.run(time.Second)
			if h.oomKills > 0 {
				t.Fatalf("from %v: killed after %v at %v; %v", start, h.at, h.limit, h.done)
			}
		}
		raises := len(h.done)
		t.Logf("from %v: %d raises, ends at %v", start, raises, h.limit)
		if h.limit < knowledge.GiB || h.limit > 2*knowledge.GiB {
			t.Errorf("from %v: ends at %v", start, h.limit)
		}
		if raises > 40 {
			t.Errorf("from %v: %d raises of the limit, want few", start, raises)
		}
	}
}

// Nor is it when it grows faster, while its room lasts for four readings.
func TestFastGrowthIsNotKilled(t *testing.T) {
	for _, rate := range []float64{0.5e6, 2e6, 10e6, 20e6, 30e6} {
		h := newWorld(2)
		h.every, h.limit, h.quota = near, 192*knowledge.MiB, knowledge.OneCPU
		h.load = func(time.Duration) float64 { return 0.2 }
		h.working = func(at time.Duration) knowledge.Bytes {
			return min(64*knowledge.MiB+knowledge.Bytes(rate*at.Seconds()), 2*knowledge.GiB)
		}
		h.run(2 * time.Minute)
		if h.oomKills > 0 {
			t.Errorf("%.1f MB/s: killed; %v", rate/1e6, h.done)
		}
	}
}

// Memory that was needed once is given back in small steps after ten minutes of
// calm, never under what is used, and comes back as fast as it is wanted.
func TestIdleMemoryShrinksAndGrowsBack(t *testing.T) {
	h := newWorld(2)
	h.every, h.limit, h.quota = near, knowledge.GiB, knowledge.OneCPU
	h.load = func(time.Duration) float64 { return 0.01 }
	h.working = func(at time.Duration) knowledge.Bytes {
		if at < 25*time.Minute {
			return 50 * knowledge.MiB
		}
		return min(50*knowledge.MiB+knowledge.Bytes(5e6*(at-25*time.Minute).Seconds()), 500*knowledge.MiB)
	}
	h.run(25 * time.Minute)
	if h.limit > 320*knowledge.MiB || h.limit < 114*knowledge.MiB {
		t.Errorf("after 25 minutes of 50 MiB the limit is %v", h.limit)
	}
	low := h.limit
	h.run(3 * time.Minute)
	if h.oomKills > 0 || h.limit < 500*knowledge.MiB {
		t.Errorf("from %v back to %v, %d kills", low, h.limit, h.oomKills)
	}
}

// An idle container gives its CPU back to within the least change of its floor,
// holds there, and is whole again within 300 ms of the next request.
func TestIdleShrinksToItsFloorAndGrowsBack(t *testing.T) {
	h := newWorld(4)
	h.threads, h.quota = 2, 2*knowledge.OneCPU
	h.load = func(at time.Duration) float64 {
		switch {
		case at < 20*time.Second:
			return 1.5
		case at < 3*time.Minute:
			return 0.001
		}
		return 1.5
	}
	h.run(20 * time.Second)
	if h.quota < 1500*knowledge.OneCPU/1000 {
		t.Fatalf("quota %v under the load of 1.5 cores: %v", h.quota, h.done)
	}
	h.run(2 * time.Minute)
	if h.quota > 7*knowledge.OneCPU/100 {
		t.Errorf("idle for 2 minutes: quota still %v", h.quota)
	}
	moves := len(h.done)
	h.run(40 * time.Second)
	if len(h.done) != moves {
		t.Errorf("idle at its floor, and still moving: %v", h.done[moves:])
	}
	for h.at < 3*time.Minute+2*time.Second {
		h.run(tick)
		if h.quota >= 1500*knowledge.OneCPU/1000 {
			break
		}
	}
	if took := h.at - 3*time.Minute; took > 400*time.Millisecond {
		t.Errorf("back at %v only %v after the load came back", h.quota, took)
	}
	h.delayed = 0
	h.run(10 * time.Second)
	if h.delayed > 0.5 {
		t.Errorf("still %.2f s of work waiting", h.delayed)
	}
}

// FAULTS row 67: whatever the period of a swinging load, a cut comes at least a
// stabilisation window after the growth before it, and a load that swings as
// fast as the loop sees no cut at all.
func TestRow67OscillatingLoad(t *testing.T) {
	for _, period := range []time.Duration{200 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
		9 * time.Second, 15 * time.Second, 25 * time.Second, time.Minute} {
		h := newWorld(4)
		h.threads, h.quota = 2, knowledge.OneCPU/5
		h.load = func(at time.Duration) float64 {
			if at%period < period/2 {
				return 1.6
			}
			return 0.05
		}
		h.run(5 * time.Minute)
		var grew time.Time
		turns, up := 0, true
		for _, d := range h.done {
			if d.Verb == knowledge.Grow {
				grew, up = d.At, true
				continue
			}
			if up {
				turns++
			}
			up = false
			if d.At.Sub(grew) < 10*time.Second {
				t.Errorf("period %v: a cut %v after growth: %v", period, d.At.Sub(grew), d.Reason)
			}
		}
		t.Logf("period %v: %d actions, turned down %d times in 5 min", period, len(h.done), turns)
		if limit := 30; turns > limit {
			t.Errorf("period %v: turned down %d times in 5 min, want %d at most", period, turns, limit)
		}
		if period < 10*time.Second && turns > 2 {
			t.Errorf("period %v, shorter than the stabilisation window: turned down %d times", period, turns)
		}
	}
}
