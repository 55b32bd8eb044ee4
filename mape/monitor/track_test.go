package monitor

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	fastTier = knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory
	memTier  = knowledge.HasMemoryStat | knowledge.HasOOM
	cpus     = 4
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// box is a container as a test drives it: levels and counters, by the second.
type box struct {
	t  Track
	s  knowledge.Sample
	at time.Time
}

func newBox() *box { return &box{at: start, s: knowledge.Sample{MemoryUsage: 64 * knowledge.MiB}} }

// step lets d pass at cores of use, with throttled of its periods throttled, and
// reads the fast tier and what more is asked for.
func (b *box) step(d time.Duration, cores float64, throttled uint64, more knowledge.Signals) (bool, Minute) {
	b.at = b.at.Add(d)
	b.s.CPUUsage += time.Duration(cores * float64(d))
	b.s.Periods += uint64(d / knowledge.DefaultPeriod)
	b.s.Throttled += throttled
	return b.read(more)
}

func (b *box) read(more knowledge.Signals) (bool, Minute) {
	b.s.At, b.s.Have = b.at, fastTier|more
	return b.t.Observe(&b.s, cpus)
}

func near(t *testing.T, what string, got knowledge.NanoCPU, cores float64) {
	t.Helper()
	if math.Abs(got.Cores()-cores) > 0.001 {
		t.Errorf("%s = %s cores, want %.3f", what, got, cores)
	}
}

func TestRatesNeedTwoReadings(t *testing.T) {
	b := newBox()
	b.s.CPUUsage = 5 * time.Hour // before anybody looked
	if ok, _ := b.read(0); !ok || b.t.Window.Samples != 1 || b.t.Window.Usage != 0 {
		t.Fatalf("first reading: ok %v, %+v", ok, b.t.Window)
	}
	b.step(100*time.Millisecond, 1.5, 1, 0)
	w := &b.t.Window
	near(t, "usage", w.Usage, 1.5)
	if w.Samples != 2 || w.ThrottledPeriods != 1 || w.Periods != 1 || w.ThrottledRun != 1 || w.ThrottleRatio != 1 {
		t.Errorf("after one throttled period: %+v", w)
	}
}

// Row 35: a container that restarts has new counters. Never negative, never a
// spike; the run begins anew.
func TestCountersThatRestart(t *testing.T) {
	for name, fall := range map[string]func(*knowledge.Sample){
		"cpu":            func(s *knowledge.Sample) { s.CPUUsage = time.Millisecond },
		"periods":        func(s *knowledge.Sample) { s.Periods = 0 },
		"throttled":      func(s *knowledge.Sample) { s.Throttled = 0 },
		"throttled time": func(s *knowledge.Sample) { s.ThrottledTime = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox()
			b.s.Throttled, b.s.ThrottledTime, b.s.Periods = 10, time.Second, 100
			for range 20 {
				b.step(time.Second, 2, 5, 0)
			}
			b.at = b.at.Add(time.Second)
			fall(&b.s)
			if ok, _ := b.read(0); !ok {
				t.Error("a restart is no absurd reading")
			}
			w := &b.t.Window
			if w.Samples != 1 || w.Usage != 0 || w.UsageMax != 0 || w.ThrottleRatio != 0 || w.Growth != 0 ||
				!w.Since.Equal(b.at) {
				t.Errorf("after a restart: %+v", w)
			}
			b.step(time.Second, 0.5, 0, 0)
			near(t, "usage", w.Usage, 0.5)
			near(t, "highest use", w.UsageMax, 0.5)
		})
	}
}

// Row 36: what cannot exist is dropped and changes nothing.
func TestAbsurdNumbersAreDropped(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, spoil := range map[string]func(*knowledge.Sample){
		"negative cpu":        func(s *knowledge.Sample) { s.CPUUsage = -1 },
		"negative throttling": func(s *knowledge.Sample) { s.ThrottledTime = math.MinInt64 },
		"negative memory":     func(s *knowledge.Sample) { s.MemoryUsage = -5 },
		"2^63-1 memory":       func(s *knowledge.Sample) { s.MemoryUsage = math.MaxInt64 },
		"2^63-1 anon":         func(s *knowledge.Sample) { s.Anon = math.MaxInt64 },
		"negative inactive":   func(s *knowledge.Sample) { s.InactiveFile = -1 },
		"2^63-1 limit":        func(s *knowledge.Sample) { s.MemoryLimit = math.MaxInt64 },
		"negative quota":      func(s *knowledge.Sample) { s.Quota = -1 },
		"huge quota":          func(s *knowledge.Sample) { s.Quota = knowledge.MaxCPU + 1 },
		"NaN pressure":        func(s *knowledge.Sample) { s.MemoryPressure.Some10 = nan },
		"infinite pressure":   func(s *knowledge.Sample) { s.CPUPressure.Full60 = inf },
		"negative pressure":   func(s *knowledge.Sample) { s.IOPressure.Some60 = -1 },
		"2^63-1 cpu":          func(s *knowledge.Sample) { s.CPUUsage = math.MaxInt64 },
		"2^64-1 throttled":    func(s *knowledge.Sample) { s.Throttled = math.MaxUint64 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox()
			for range 5 {
				b.step(time.Second, 1, 0, ^knowledge.Signals(0))
			}
			before, kept := b.t.Window, b.s
			b.at = b.at.Add(time.Second)
			spoil(&b.s)
			if ok, _ := b.read(^knowledge.Signals(0)); ok {
				t.Fatal("accepted")
			}
			if b.t.Window.Rejected != 1 {
				t.Errorf("rejected = %d, want 1", b.t.Window.Rejected)
			}
			after := b.t.Window
			after.Rejected = 0
			if after.Usage != before.Usage || after.WorkingSet != before.WorkingSet || after.At != before.At ||
				after.MemoryLimit != before.MemoryLimit {
				t.Errorf("the window moved:\nbefore %+v\nafter  %+v", before, after)
			}
			b.s = kept
			b.s.CPUUsage += time.Second
			if ok, _ := b.step(time.Second, 1, 0, 0); !ok || b.t.Window.Rejected != 0 {
				t.Errorf("the next good reading: ok %v, rejected %d", ok, b.t.Window.Rejected)
			}
		})
	}
}

// Row 37: files are read some µs apart, so a tenth above the host's cores is
// clamped; what no machine can do is dropped, and believed as a new beginning
// when it stays.
func TestUsageAboveTheHostsCores(t *testing.T) {
	b := newBox()
	b.read(0)
	b.step(time.Second, 1.5*cpus, 0, 0)
	near(t, "clamped usage", b.t.Window.Usage, 1.1*cpus)
	for i := range 2 {
		b.at, b.s.CPUUsage = b.at.Add(time.Second), b.s.CPUUsage+100*time.Second
		if ok, _ := b.read(0); ok {
			t.Fatalf("reading %d of 100 cores was accepted", i)
		}
		b.s.CPUUsage -= 100 * time.Second
	}
	if b.t.Window.Rejected != 2 {
		t.Errorf("rejected %d", b.t.Window.Rejected)
	}
	near(t, "usage while nothing is believed", b.t.Window.Usage, 1.1*cpus)
	b.s.CPUUsage += 1000 * time.Second // a counter that leapt, and goes on from there
	b.step(time.Second, 1, 0, 0)
	if b.t.Window.Samples != 1 {
		t.Errorf("%d samples: a third reading in a row is a new beginning", b.t.Window.Samples)
	}
	b.step(time.Second, 1, 0, 0)
	near(t, "usage after", b.t.Window.Usage, 1)
}

// Row 38: the same instant twice says nothing new about CPU, and the window's age
// tells that it is old.
func TestTheSameInstantTwice(t *testing.T) {
	b := newBox()
	for range 3 {
		b.step(time.Second, 1, 2, 0)
	}
	before := b.t.Window
	for range 60 {
		if ok, _ := b.read(memTier); !ok {
			t.Fatal("not accepted")
		}
	}
	w := b.t.Window
	if w.Usage != before.Usage || w.Samples != before.Samples || w.ThrottledRun != before.ThrottledRun ||
		!w.At.Equal(before.At) {
		t.Errorf("before %+v\nafter  %+v", before, w)
	}
}

// Row 41: a clock that is set back begins a new run, and breaks no slot.
func TestTheClockStepsBack(t *testing.T) {
	b := newBox()
	for range 100 {
		b.step(time.Second, 1, 0, memTier)
	}
	b.at = b.at.Add(-48 * time.Hour)
	b.read(memTier)
	if w := b.t.Window; w.Samples != 1 || w.Usage != 0 {
		t.Errorf("after the step: %+v", w)
	}
	for range 100 {
		b.step(time.Second, 2, 0, memTier)
	}
	near(t, "usage", b.t.Window.Usage, 2)
	near(t, "highest of the minute", b.t.Window.Usage60, 2)
}

// The throttled run: an interval in which nothing ran neither adds nor breaks it.
func TestThrottledRun(t *testing.T) {
	b := newBox()
	b.read(0)
	steps := []struct {
		periods, throttled uint64
		want               int
	}{{1, 1, 1}, {1, 1, 2}, {0, 0, 2}, {3, 3, 5}, {2, 1, 1}, {1, 0, 0}, {0, 0, 0}, {1, 1, 1}}
	for i, s := range steps {
		b.at = b.at.Add(100 * time.Millisecond)
		b.s.Periods, b.s.Throttled = b.s.Periods+s.periods, b.s.Throttled+s.throttled
		b.read(0)
		if got := b.t.Window.ThrottledRun; got != s.want {
			t.Errorf("step %d: run %d, want %d", i, got, s.want)
		}
	}
}

// The windows: 1 s for the ratio, 5 s for peak and spread, 60 s for the highest
// second, whatever the cadence.
func TestWindows(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, time.Second} {
		t.Run(every.String(), func(t *testing.T) {
			b := newBox()
			b.read(0)
			run := func(d time.Duration, cores float64, throttled bool) {
				for range d / every {
					n := uint64(0)
					if throttled {
						n = uint64(every / knowledge.DefaultPeriod)
					}
					b.step(every, cores, n, 0)
				}
			}
			w := &b.t.Window
			run(10*time.Second, 0.5, false)
			run(2*time.Second, 2, true)
			if w.ThrottleRatio != 1 {
				t.Errorf("ratio %v after 2 s of throttling", w.ThrottleRatio)
			}
			run(2*time.Second, 0.5, false)
			if w.ThrottleRatio != 0 {
				t.Errorf("ratio %v a second after throttling ended", w.ThrottleRatio)
			}
			near(t, "5 s peak", w.UsageMax, 2)
			run(5*time.Second, 0.5, false)
			near(t, "5 s peak, later", w.UsageMax, 0.5)
			near(t, "5 s mean", w.UsageMean, 0.5)
			near(t, "60 s peak", w.Usage60, 2)
			run(44*time.Second, 0.5, false)
			near(t, "60 s peak at 51 s", w.Usage60, 2)
			run(20*time.Second, 0.5, false)
			near(t, "60 s peak at 71 s", w.Usage60, 0.5)
		})
	}
}

// A gap longer than a minute leaves nothing of the minute before.
func TestGap(t *testing.T) {
	b := newBox()
	for range 30 {
		b.step(time.Second, 3, 0, memTier)
	}
	b.step(10*time.Hour, 0.1, 0, memTier)
	near(t, "60 s peak", b.t.Window.Usage60, 0.1)
	if b.t.Window.Interval != 10*time.Hour {
		t.Errorf("interval %s", b.t.Window.Interval)
	}
}

// Restart: after the daemon itself was frozen, the first reading is a baseline.
func TestRestartKeepsMemoryAndForgetsRates(t *testing.T) {
	b := newBox()
	b.s.Anon = 300 * knowledge.MiB
	for range 20 {
		b.step(time.Second, 2, 1, memTier)
	}
	b.t.Restart()
	w := &b.t.Window
	if w.Samples != 0 || w.Usage != 0 || w.UsageMax != 0 || w.ThrottleRatio != 0 {
		t.Errorf("%+v", w)
	}
	b.step(30*time.Second, 2, 0, 0)
	if w.Samples != 1 || w.Usage != 0 || w.AnonPeak != 300*knowledge.MiB {
		t.Errorf("%+v", w)
	}
}

// Without throttling figures (the root cgroup, the Engine's statistics) nothing
// is known of it, and nothing is made up.
func TestThrottlingThatComesAndGoes(t *testing.T) {
	b := newBox()
	for i := range 10 {
		b.at = b.at.Add(time.Second)
		b.s.CPUUsage += time.Second
		b.s.Have, b.s.At = knowledge.HasCPU|knowledge.HasMemory, b.at
		b.s.Periods, b.s.Throttled = 0, 0
		if i%2 == 0 {
			b.s.Have |= knowledge.HasThrottle
			b.s.Periods, b.s.Throttled = uint64(10*i), uint64(i)
		}
		if ok, _ := b.t.Observe(&b.s, cpus); !ok {
			t.Fatalf("reading %d was dropped", i)
		}
	}
	if b.t.Window.Samples != 10 {
		t.Errorf("%d samples", b.t.Window.Samples)
	}
}

// Claim 3: no garbage in steady state.
func TestObserveAllocatesNothing(t *testing.T) {
	b := newBox()
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		more := knowledge.Signals(0)
		if i++; i%100 == 0 {
			more = ^knowledge.Signals(0)
		}
		b.step(100*time.Millisecond, 1, 0, more)
	}); n != 0 {
		t.Errorf("%v allocations per reading", n)
	}
}

// One reading, folded: of a hot container (ten a second, 50 in the window of
// 5 s), a busy one and an idle one.
func BenchmarkObserve(b *testing.B) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second} {
		b.Run(every.String(), func(b *testing.B) {
			x := newBox()
			for range 100 {
				x.step(every, 1, 0, 0)
			}
			b.ReportAllocs()
			for b.Loop() {
				x.step(every, 1, 0, 0)
			}
		})
	}
}
