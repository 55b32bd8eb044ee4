package monitor

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// twin keeps every reading of a run and computes the window from the definitions.
type twin struct {
	all []point
}

type point struct {
	at                 time.Time
	cpu                time.Duration
	periods, throttled uint64
	usage              float64
	working            knowledge.Bytes
}

func (w *twin) add(p point) {
	if n := len(w.all); n > 0 {
		prev := w.all[n-1]
		p.usage = min(float64(p.cpu-prev.cpu)/float64(p.at.Sub(prev.at)), cpus*1.1)
	}
	w.all = append(w.all, p)
}

// span is the readings after the first one whose intervals end within d.
func (w *twin) span(d time.Duration) (out []point) {
	last := w.all[len(w.all)-1].at
	for i, p := range w.all {
		if i > 0 && last.Sub(p.at) <= d {
			out = append(out, p)
		}
	}
	return out
}

func (w *twin) check(t *rapid.T, got *knowledge.Window) {
	if len(w.all) < 2 {
		return
	}
	same := func(what string, got, want float64) {
		if math.Abs(got-want) > 1e-6*max(1, want) {
			t.Fatalf("%s is %v, the twin says %v", what, got, want)
		}
	}
	peak, sum, sq := 0.0, 0.0, 0.0
	five := w.span(shortSpan)
	for _, p := range five {
		peak, sum, sq = max(peak, p.usage), sum+p.usage, sq+p.usage*p.usage
	}
	mean := sum / float64(len(five))
	last := w.all[len(w.all)-1]
	same("usage", got.Usage.Cores(), last.usage)
	same("peak", got.UsageMax.Cores(), peak)
	same("mean", got.UsageMean.Cores(), mean)
	if spread := math.Sqrt(max(0, sq/float64(len(five))-mean*mean)); math.Abs(got.UsageStd.Cores()-spread) > 1e-4 {
		t.Fatalf("spread is %v, the twin says %v", got.UsageStd.Cores(), spread)
	}
	base := w.all[len(w.all)-2]
	for i := len(w.all) - 2; i >= 0 && last.at.Sub(w.all[i].at) <= ratioSpan+50*time.Millisecond; i-- {
		base = w.all[i]
	}
	ratio := 0.0
	if p := last.periods - base.periods; p > 0 {
		ratio = min(1, float64(last.throttled-base.throttled)/float64(p))
	}
	same("ratio", got.ThrottleRatio, ratio)
	for i := len(w.all) - 2; i >= 0; i-- { // the newest reading that is a second old
		d := last.at.Sub(w.all[i].at)
		if d < ratioSpan-50*time.Millisecond {
			continue
		}
		if grown := float64(last.working-w.all[i].working) / d.Seconds(); d <= growthSpan && got.Growth < grown-1 {
			t.Fatalf("growth %v is no upper bound of the last second's %v", got.Growth, grown)
		}
		break
	}
}

// Any cadence, any load, with restarts in between: the window is what the
// definitions say, and always within what can be.
func TestTrackAgainstItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr Track
		var tw twin
		s := knowledge.Sample{At: start, Have: fastTier}
		steps := rapid.IntRange(2, 120).Draw(t, "steps")
		cadence := rapid.SampledFrom([]time.Duration{100 * time.Millisecond, 150 * time.Millisecond, time.Second,
			5 * time.Second, time.Minute})
		for range steps {
			d := cadence.Draw(t, "every")
			s.At = s.At.Add(d)
			if rapid.IntRange(0, 30).Draw(t, "restart") == 0 {
				s.CPUUsage, s.Periods, s.Throttled, s.ThrottledTime = 0, 0, 0, 0
				if len(tw.all) > 0 && (tw.all[len(tw.all)-1].cpu > 0 || tw.all[len(tw.all)-1].periods > 0) {
					tw.all = nil
				}
			} else {
				s.CPUUsage += time.Duration(rapid.Float64Range(0, cpus).Draw(t, "cores") * float64(d))
				n := uint64(d / knowledge.DefaultPeriod)
				s.Periods += n
				s.Throttled += rapid.Uint64Range(0, n).Draw(t, "throttled")
			}
			s.MemoryUsage = knowledge.Bytes(rapid.Int64Range(0, int64(knowledge.GiB)).Draw(t, "memory"))
			if ok, _ := tr.Observe(&s, cpus); !ok {
				t.Fatalf("dropped %+v", s)
			}
			tw.add(point{at: s.At, cpu: s.CPUUsage, periods: s.Periods, throttled: s.Throttled, working: s.MemoryUsage})
			if tr.Window.Samples != len(tw.all) {
				t.Fatalf("%d samples, the twin has %d", tr.Window.Samples, len(tw.all))
			}
			tw.check(t, &tr.Window)
		}
	})
}

// Rows 35, 36, 37, 41: whatever is fed, the window stays within bounds.
func TestNothingBreaksAWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr Track
		at := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.Int64Range(-int64(24*time.Hour), int64(24*time.Hour)).Draw(t, "d")))
			s := knowledge.Sample{
				At: at, Have: knowledge.Signals(rapid.Uint16().Draw(t, "have")),
				CPUUsage: time.Duration(rapid.Int64().Draw(t, "cpu")), Periods: rapid.Uint64().Draw(t, "periods"),
				Throttled: rapid.Uint64().Draw(t, "throttled"), ThrottledTime: time.Duration(rapid.Int64().Draw(t, "held")),
				MemoryUsage:    knowledge.Bytes(rapid.Int64().Draw(t, "memory")),
				MemoryEvents:   knowledge.MemoryEvents{OOMKills: rapid.Uint64().Draw(t, "kills")},
				Quota:          knowledge.NanoCPU(rapid.Int64().Draw(t, "quota")),
				MemoryPressure: knowledge.Pressure{Some10: rapid.Float64().Draw(t, "psi")},
				MemoryDetail: knowledge.MemoryDetail{InactiveFile: knowledge.Bytes(rapid.Int64().Draw(t, "inactive")),
					Anon:     knowledge.Bytes(rapid.Int64Range(-1, int64(knowledge.TiB)).Draw(t, "anon")),
					Refaults: rapid.Uint64().Draw(t, "refaults")},
			}
			tr.Observe(&s, cpus)
			bounded(t, &tr.Window)
		}
	})
}

func bounded(t *rapid.T, w *knowledge.Window) {
	most := knowledge.FromCores(cpus * 1.1)
	for name, v := range map[string]knowledge.NanoCPU{"usage": w.Usage, "peak": w.UsageMax, "mean": w.UsageMean,
		"missing": w.Missing} {
		if v < 0 || v > most+1 {
			t.Fatalf("%s is %d", name, v)
		}
	}
	for name, v := range map[string]knowledge.Bytes{"working set": w.WorkingSet, "anon": w.Anon, "usage": w.MemoryUsage,
		"peak": w.AnonPeak} {
		if v < 0 || v > knowledge.MaxBytes {
			t.Fatalf("%s is %d", name, v)
		}
	}
	if !(w.ThrottleRatio >= 0 && w.ThrottleRatio <= 1 && w.Growth >= 0 && w.RefaultRate >= 0 &&
		w.MemoryPressure.Some10 >= 0) {
		t.Fatalf("ratio %v, growth %v, refaults %v, pressure %v", w.ThrottleRatio, w.Growth, w.RefaultRate,
			w.MemoryPressure.Some10)
	}
	if w.Usage60 < 0 || w.Quota < 0 || w.Quota > knowledge.MaxCPU {
		t.Fatalf("usage60 %d, quota %d", w.Usage60, w.Quota)
	}
}
