package monitor

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

func withLimit(b knowledge.Bytes) (w knowledge.Window) {
	w.MemoryLimit = b
	return w
}

// slowReadings lets ten minutes pass, with a reading each second, and counts how often
// each group of the slow tier was read after the first time.
func slowReadings(w knowledge.Window, every time.Duration, use func(second int) knowledge.Bytes,
	watched bool) map[knowledge.Signals]int {
	var p Slow
	at := start
	if p.Due(at, &w, use(0), every, watched) != knowledge.SlowTier|knowledge.HasBounds {
		return nil
	}
	p.Start(at, every, 0)
	read := map[knowledge.Signals]int{}
	for i := 1; i <= 600; i++ {
		due := p.Due(at.Add(time.Duration(i)*time.Second), &w, use(i), every, watched)
		for g := knowledge.Signals(1); g <= knowledge.HasNetwork; g <<= 1 {
			if due&g != 0 {
				read[g]++
			}
		}
	}
	return read
}

// What each kind of container costs in ten minutes, and that nothing is forgotten.
func TestSlowTakesTurns(t *testing.T) {
	const mib = knowledge.MiB
	limited := withLimit(100 * mib)
	still := func(int) knowledge.Bytes { return 40 * mib }
	for _, c := range []struct {
		name                     string
		every                    time.Duration
		use                      func(int) knowledge.Bytes
		watched                  bool
		limits, detail, pressure int
	}{
		{"busy, memory stands still", 10 * time.Second, still, false, 60, 12, 12},
		{"idle", time.Minute, still, false, 10, 2, 2},
		{"memory grows", 10 * time.Second, func(i int) knowledge.Bytes { return knowledge.Bytes(i) * mib / 5 }, false, 60,
			60, 60},
		{"near its limit", 10 * time.Second, func(int) knowledge.Bytes { return 80 * mib }, false, 60, 60, 60},
		{"a cut is watched", 10 * time.Second, still, true, 60, 60, 60},
	} {
		got := slowReadings(limited, c.every, c.use, c.watched)
		if c.name == "memory grows" { // its pressure counts from 70 % on: after 350 s
			c.pressure = 12 + 25 - 5
		}
		near := func(have, want int) bool { return have >= want-1 && have <= want+1 }
		if !near(got[knowledge.HasLimits], c.limits) || !near(got[knowledge.HasMemoryStat], c.detail) ||
			!near(got[knowledge.HasOOM], c.detail) || !near(got[knowledge.HasMemoryPressure], c.pressure) {
			t.Errorf("%s: read %v, want limits %d, detail %d, pressure %d", c.name, got, c.limits, c.detail, c.pressure)
		}
		turns := int(10 * time.Minute / c.every / 5)
		for _, g := range []knowledge.Signals{knowledge.HasIO, knowledge.HasPids, knowledge.HasNetwork,
			knowledge.HasCPUPressure} {
			if !near(got[g], turns) {
				t.Errorf("%s: group %b read %d times, want %d", c.name, g, got[g], turns)
			}
		}
	}
}

// A fall of memory may be an OOM kill, and is looked at in the same reading; a
// person's request, too.
func TestSlowLooksAtOnce(t *testing.T) {
	const mib = knowledge.MiB
	var p Slow
	w := withLimit(100 * mib)
	p.Due(start, &w, 50*mib, 10*time.Second, false)
	p.Start(start, 10*time.Second, 0)
	for i, step := range []struct {
		use  knowledge.Bytes
		want knowledge.Signals
	}{{50 * mib, 0}, {60 * mib, 0}, {20 * mib, memoryDetail}, {20 * mib, 0}, {18 * mib, 0}} {
		if got := p.Due(start.Add(time.Duration(i+1)*time.Second), &w, step.use, 10*time.Second, false); got != step.want {
			t.Errorf("step %d: %b, want %b", i, got, step.want)
		}
	}
	p.Soon()
	got := p.Due(start.Add(6*time.Second), &w, 18*mib, 10*time.Second, false)
	if want := memoryDetail | knowledge.HasLimits | knowledge.HasBounds; got&want != want {
		t.Errorf("asked for: %b", got)
	}
}

// Readings are kept as long as they count, whatever the cadence.
func TestTrackKeepsWhatItsSpansNeed(t *testing.T) {
	for _, c := range []struct {
		every time.Duration
		ring  int
	}{{100 * time.Millisecond, 64}, {time.Second, 16}, {5 * time.Second, 8}} {
		var track Track
		for i := range 200 {
			s := knowledge.Sample{
				At: start.Add(time.Duration(i) * c.every), Have: knowledge.FastTier, CPUUsage: time.Duration(i) * c.every / 2,
				MemoryUsage: knowledge.Bytes(i) * knowledge.MiB,
			}
			track.Observe(&s, 4)
		}
		w := &track.Window
		perSecond := float64(knowledge.MiB) / c.every.Seconds()
		if len(track.ring) != c.ring || w.UsageMean < knowledge.OneCPU*49/100 || w.UsageMean > knowledge.OneCPU*51/100 ||
			w.Growth < perSecond*0.99 || w.Growth > perSecond*1.01 {
			t.Errorf("each %s: %d readings kept, mean %s, growth %g, want %d and %g",
				c.every, len(track.ring), w.UsageMean, w.Growth, c.ring, perSecond)
		}
	}
}
