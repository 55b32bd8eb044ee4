package analyse_test

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	core   = knowledge.OneCPU
	maxAge = 3 * time.Second
)

func policy() knowledge.Policy {
	return knowledge.Policy{ThrottleTarget: 0.06}
}

// window is a container in good health: 0.7 of 1 core, 100 of 256 MiB.
func window() knowledge.Window {
	return knowledge.Window{
		At: now.Add(-50 * time.Millisecond), Have: knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory |
			knowledge.HasMemoryStat | knowledge.HasMemoryPressure,
		Interval: 100 * time.Millisecond, Samples: 100, Since: now.Add(-time.Hour),
		Usage: core * 7 / 10, UsageMax: core * 8 / 10, UsageMean: core / 2, UsageStd: core / 10, Usage60: core * 8 / 10,
		Quota: core, Period: 100 * time.Millisecond, Periods: 1,
		WindowMemory: knowledge.WindowMemory{MemoryUsage: 150 * knowledge.MiB, WorkingSet: 150 * knowledge.MiB,
			Anon: 90 * knowledge.MiB, Hard: 150 * knowledge.MiB, MemoryLimit: 256 * knowledge.MiB},
	}
}

func assess(w knowledge.Window, c *knowledge.Container) knowledge.Finding {
	p := policy()
	return analyse.Assess(now, &w, &p, c, maxAge)
}

// Rows 35, 36 and 38, the analysis side: few, absurd and stale readings.
func TestQuality(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(w *knowledge.Window)
		want knowledge.Quality
		rule knowledge.Rule
	}{
		{"good", func(*knowledge.Window) {}, knowledge.QualityGood, knowledge.RuleSteady},
		{"nothing read", func(w *knowledge.Window) { w.Have = 0 }, knowledge.QualityMissing, knowledge.RuleMissing},
		{"only memory", func(w *knowledge.Window) { w.Have = knowledge.HasMemory }, knowledge.QualityMissing,
			knowledge.RuleMissing},
		{"row 38: frozen", func(w *knowledge.Window) { w.At = now.Add(-maxAge - 1) }, knowledge.QualityStale,
			knowledge.RuleStale},
		{"just fresh", func(w *knowledge.Window) { w.At = now.Add(-maxAge) }, knowledge.QualityGood, knowledge.RuleSteady},
		{"from the future", func(w *knowledge.Window) { w.At = now.Add(time.Hour) }, knowledge.QualityStale,
			knowledge.RuleStale},
		{"zero time", func(w *knowledge.Window) { w.At = time.Time{} }, knowledge.QualityStale, knowledge.RuleStale},
		{"two dropped", func(w *knowledge.Window) { w.Rejected = 2 }, knowledge.QualityGood, knowledge.RuleSteady},
		{"row 36: three dropped", func(w *knowledge.Window) { w.Rejected = 3 }, knowledge.QualityAbsurd,
			knowledge.RuleAbsurd},
		{"row 35: restarted", func(w *knowledge.Window) { w.Samples = 2 }, knowledge.QualityWarming, knowledge.RuleWarming},
		{"row 36: NaN ratio", func(w *knowledge.Window) { w.ThrottleRatio = math.NaN() }, knowledge.QualityAbsurd,
			knowledge.RuleAbsurd},
		{"row 36: infinite growth", func(w *knowledge.Window) { w.Growth = math.Inf(1) }, knowledge.QualityAbsurd,
			knowledge.RuleAbsurd},
		{"row 36: negative use", func(w *knowledge.Window) { w.Usage = -1 }, knowledge.QualityAbsurd, knowledge.RuleAbsurd},
		{"row 36: 2^63", func(w *knowledge.Window) { w.WorkingSet = math.MaxInt64 }, knowledge.QualityAbsurd,
			knowledge.RuleAbsurd},
		{"row 36: ratio 2", func(w *knowledge.Window) { w.ThrottleRatio = 2 }, knowledge.QualityAbsurd, knowledge.RuleAbsurd},
		{"row 36: NaN pressure", func(w *knowledge.Window) { w.MemoryPressure.Some60 = math.NaN() }, knowledge.QualityAbsurd,
			knowledge.RuleAbsurd},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := window()
			c.edit(&w)
			f := assess(w, nil)
			if f.Quality != c.want || f.Reason.Rule != c.rule {
				t.Errorf("got %v (%v), want %v (%v)", f.Quality, f.Reason, c.want, c.rule)
			}
			if f.Quality < knowledge.QualityWarming && (f.Boost || f.Demand != 0 || f.CPU != knowledge.SymptomNone ||
				f.Memory != knowledge.SymptomNone) {
				t.Errorf("something was found in what cannot be trusted: %+v", f)
			}
		})
	}
}

func TestSymptoms(t *testing.T) {
	type want struct {
		cpu, memory knowledge.Symptom
		boost       bool
	}
	const none, idle, roomy, tight, starved, critical = knowledge.SymptomNone, knowledge.SymptomIdle,
		knowledge.SymptomRoomy,
		knowledge.SymptomTight, knowledge.SymptomStarved, knowledge.SymptomCritical
	throttled := func(w *knowledge.Window, held knowledge.NanoCPU, run int) {
		w.Usage, w.Missing, w.ThrottledPeriods, w.ThrottledRun = core, held, 1, run
	}
	for _, c := range []struct {
		name string
		edit func(w *knowledge.Window)
		want want
	}{
		{"well", func(*knowledge.Window) {}, want{none, none, false}},
		{"idle", func(w *knowledge.Window) {
			w.Usage, w.UsageMax, w.Usage60, w.Hard = core/1000, core/500, core/500, 5*knowledge.MiB
		}, want{idle, idle, false}},
		{"roomy", func(w *knowledge.Window) {
			w.Usage, w.UsageMax, w.Hard = core/4, core/2, 100*knowledge.MiB
		}, want{roomy, roomy, false}},
		{"roomy once, and a high peak of anon", func(w *knowledge.Window) {
			w.Hard, w.AnonPeak = 100*knowledge.MiB,
				200*knowledge.MiB
		}, want{none, none, false}},
		{"near the quota", func(w *knowledge.Window) { w.Usage = core * 95 / 100 }, want{tight, none, false}},
		{"a little throttled", func(w *knowledge.Window) { w.ThrottleRatio = 0.1 }, want{tight, none, false}},
		{"throttled", func(w *knowledge.Window) { w.ThrottleRatio = 0.2 }, want{starved, none, false}},
		{"hard at once", func(w *knowledge.Window) { throttled(w, core/2, 1) }, want{critical, none, true}},
		{"softly at first", func(w *knowledge.Window) { throttled(w, core/10, 1) }, want{tight, none, false}},
		{"softly twice", func(w *knowledge.Window) { throttled(w, core/10, 2) }, want{critical, none, true}},
		{"hard, in half a period", func(w *knowledge.Window) { throttled(w, core, 1); w.Interval = 50 * time.Millisecond },
			want{tight, none, false}},
		{"held back by the quota before", func(w *knowledge.Window) { throttled(w, core, 1); w.ThrottledPeriods = 0 },
			want{tight, none, false}},
		{"one period of a second", func(w *knowledge.Window) {
			throttled(w, core*3/100, 1)
			w.Interval,
				w.Periods = time.Second, 10
		}, want{critical, none, true}},
		{"unlimited", func(w *knowledge.Window) { throttled(w, core, 5); w.Quota, w.ThrottleRatio = 0, 0.9 },
			want{none, none, false}},
		{"killed", func(w *knowledge.Window) { w.OOMKills = 1 }, want{none, critical, false}},
		{"full", func(w *knowledge.Window) { w.Hard = 240 * knowledge.MiB }, want{none, tight, false}},
		{"soon full", func(w *knowledge.Window) { w.Growth = 20 * float64(knowledge.MiB) }, want{none, tight, false}},
		{"not so soon", func(w *knowledge.Window) { w.Growth = float64(knowledge.MiB) }, want{none, none, false}},
		{"reclaims what is needed", func(w *knowledge.Window) {
			w.MaxEvents, w.MemoryUsage, w.RefaultRate, w.MemoryPressure.Some10 = 3, 250*knowledge.MiB, 300, 2
		}, want{none, starved, false}},
		{"recycles page cache", func(w *knowledge.Window) { w.MaxEvents, w.MemoryUsage = 3, 256*knowledge.MiB },
			want{none, none, false}},
		{"waits at its limit", func(w *knowledge.Window) {
			w.MemoryUsage, w.Hard, w.MemoryPressure.Some10 = 250*knowledge.MiB, 210*knowledge.MiB, 2
		},
			want{none, starved, false}},
		{"the host is short", func(w *knowledge.Window) { w.MemoryPressure.Some10 = 20 }, want{none, none, false}},
		{"no memory limit", func(w *knowledge.Window) { w.MemoryLimit, w.Growth = 0, 1e9 }, want{none, none, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := window()
			c.edit(&w)
			f := assess(w, nil)
			if got := (want{f.CPU, f.Memory, f.Boost}); got != c.want {
				t.Errorf("got %v, want %v; %v", got, c.want, f.Reason)
			}
		})
	}
}

// Four threads under a quota of one core: the demand is four cores, whether the
// interval is the throttled period or a second that holds one.
func TestDemand(t *testing.T) {
	w := window()
	w.Usage, w.Missing, w.ThrottledPeriods, w.ThrottledRun = core, 3*core, 1, 1
	if f := assess(w, nil); f.Demand != 4*core {
		t.Errorf("one period: demand %v, want 4", f.Demand)
	}
	w.Interval, w.Periods, w.Usage, w.Missing = time.Second, 10, core, 3*core/10
	if f := assess(w, nil); f.Demand != 4*core {
		t.Errorf("one period of ten: demand %v, want 4", f.Demand)
	}
	w.Missing = knowledge.MaxCPU
	if f := assess(w, nil); f.Demand != knowledge.MaxCPU {
		t.Errorf("beyond all machines: demand %v", f.Demand)
	}
	w = window()
	if f := assess(w, nil); f.Demand != w.Usage {
		t.Errorf("unthrottled: demand %v, want the use %v", f.Demand, w.Usage)
	}
}

func TestTimeToFullAndCalm(t *testing.T) {
	w := window()
	w.Growth = float64(106 * knowledge.MiB)
	if f := assess(w, nil); f.TimeToFull != time.Second {
		t.Errorf("time to full %v, want 1s", f.TimeToFull)
	}
	w.Hard = 300 * knowledge.MiB
	if f := assess(w, nil); f.TimeToFull != time.Nanosecond {
		t.Errorf("over the limit: time to full %v, want next to nothing, and not never", f.TimeToFull)
	}
	w = window()
	w.Growth = 1e-300
	if f := assess(w, nil); f.TimeToFull != 0 {
		t.Errorf("hardly growing: time to full %v, want never", f.TimeToFull)
	}
	for _, c := range []struct {
		name string
		edit func(w *knowledge.Window)
		want time.Duration
	}{
		{"never anything", func(*knowledge.Window) {}, time.Hour},
		{"watched for a minute", func(w *knowledge.Window) { w.Since = now.Add(-time.Minute) }, time.Minute},
		{"killed", func(w *knowledge.Window) { w.LastOOM = now.Add(-5 * time.Minute) }, 5 * time.Minute},
		{"an event", func(w *knowledge.Window) {
			w.LastMemoryEvent, w.Hard = now.Add(-2*time.Minute), 210*knowledge.MiB
		}, 2 * time.Minute},
		{"pressure", func(w *knowledge.Window) { w.MemoryPressure.Some10 = 1.5 }, 0},
	} {
		w := window()
		c.edit(&w)
		if f := assess(w, nil); f.MemoryCalm != c.want {
			t.Errorf("%s: calm for %v, want %v", c.name, f.MemoryCalm, c.want)
		}
	}
}

// Row 41 is among these: after a step of the wall clock a container has started
// in the future, and counts as not starting.
func TestStarting(t *testing.T) {
	for _, c := range []struct {
		name    string
		started time.Duration // ago
		health  knowledge.Health
		want    bool
	}{
		{"just now", 5 * time.Second, knowledge.HealthNone, true},
		{"health still open", 5 * time.Second, knowledge.HealthStarting, true},
		{"healthy", 5 * time.Second, knowledge.HealthHealthy, false},
		{"unhealthy", 5 * time.Second, knowledge.HealthUnhealthy, true},
		{"long ago", time.Hour, knowledge.HealthStarting, false},
		{"row 41: in the future", -24 * time.Hour, knowledge.HealthStarting, false},
	} {
		f := assess(window(), &knowledge.Container{StartedAt: now.Add(-c.started), Health: c.health})
		if f.Starting != c.want {
			t.Errorf("%s: starting %v, want %v", c.name, f.Starting, c.want)
		}
	}
	if f := assess(window(), &knowledge.Container{}); f.Starting || f.Age != 0 {
		t.Errorf("never inspected: %+v", f)
	}
}

// Whatever a window holds, a finding is in its bounds, and the same twice.
func TestAnyWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := window()
		cpu := rapid.OneOf(rapid.Int64Range(0, int64(8*core)), rapid.Int64())
		size := rapid.OneOf(rapid.Int64Range(0, int64(knowledge.GiB)), rapid.Int64())
		number := rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64())
		w.Have = knowledge.Signals(rapid.Uint16().Draw(t, "have"))
		w.Usage, w.Missing, w.Quota = knowledge.NanoCPU(cpu.Draw(t, "usage")), knowledge.NanoCPU(cpu.Draw(t,
			"missing")), knowledge.NanoCPU(cpu.Draw(t, "quota"))
		w.WorkingSet, w.MemoryLimit = knowledge.Bytes(size.Draw(t, "set")), knowledge.Bytes(size.Draw(t, "limit"))
		w.ThrottleRatio, w.Growth = number.Draw(t, "ratio"), number.Draw(t, "growth")
		w.Interval, w.Period = time.Duration(rapid.Int64().Draw(t, "interval")), time.Duration(rapid.Int64().Draw(t,
			"period"))
		w.ThrottledPeriods = rapid.Uint64().Draw(t, "throttled")
		f := assess(w, nil)
		if again := assess(w, nil); f != again {
			t.Fatalf("twice the same, and two findings: %+v, %+v", f, again)
		}
		if f.Demand < 0 || f.Demand > knowledge.MaxCPU || f.TimeToFull < 0 || f.MemoryCalm < 0 ||
			f.Quality > knowledge.QualityGood {
			t.Fatalf("out of bounds: %+v", f)
		}
		if f.Quality >= knowledge.QualityWarming && f.Demand < w.Usage {
			t.Fatalf("demand %v under use %v", f.Demand, w.Usage)
		}
	})
}

func TestAssessAllocatesNothing(t *testing.T) {
	w, p, c := window(), policy(), knowledge.Container{StartedAt: now.Add(-time.Second)}
	w.ThrottledPeriods, w.ThrottledRun, w.Missing, w.OOMKills, w.Growth = 1, 2, core, 1, 1e6
	if n := testing.AllocsPerRun(100, func() { analyse.Assess(now, &w, &p, &c, maxAge) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAssess(b *testing.B) {
	w, p, c := window(), policy(), knowledge.Container{}
	b.ReportAllocs()
	for b.Loop() {
		analyse.Assess(now, &w, &p, &c, maxAge)
	}
}

// Page cache, active or not, is no demand: events at a limit that is full of it do not ask for
// more, or a reader of files would grow for ever. What is read again, and waited for, is missed.
func TestPageCacheAtTheLimit(t *testing.T) {
	const memory, stat, psi = knowledge.HasMemory, knowledge.HasMemoryStat, knowledge.HasMemoryPressure
	for _, c := range []struct {
		name             string
		hard             knowledge.Bytes
		refaults, waits  float64
		have             knowledge.Signals
		missed, starving bool
	}{
		{"cache", 100 * knowledge.MiB, 0, 0, memory | stat, false, false},
		{"a streaming copy waits for reclaim", 100 * knowledge.MiB, 0, 30, memory | stat | psi, false, false},
		{"read again", 100 * knowledge.MiB, 300, 0, memory | stat, true, false},
		{"read again, without waiting", 100 * knowledge.MiB, 300, 0.1, memory | stat | psi, false, false},
		{"read again, and waited for", 100 * knowledge.MiB, 300, 2, memory | stat | psi, true, true},
		{"little but need, and waiting", 420 * knowledge.MiB, 0, 2, memory | stat | psi, false, true},
		{"nothing else is known", 0, 0, 0, memory, true, false},
	} {
		w := knowledge.Window{Have: c.have, WindowMemory: knowledge.WindowMemory{MaxEvents: 9,
			MemoryUsage: 512 * knowledge.MiB, MemoryLimit: 512 * knowledge.MiB, WorkingSet: 450 * knowledge.MiB, Hard: c.hard,
			Cache: 512*knowledge.MiB - c.hard, RefaultRate: c.refaults}}
		w.MemoryPressure.Some10 = c.waits
		if got := analyse.CacheMissed(&w); got != c.missed {
			t.Errorf("%s: missed %v", c.name, got)
		}
		if got := analyse.Waiting(&w); got != c.starving {
			t.Errorf("%s: waiting %v", c.name, got)
		}
	}
}
