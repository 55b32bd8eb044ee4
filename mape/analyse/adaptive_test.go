package analyse_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"pgregory.net/rapid"
)

// teach runs a service of mean 0.6 of its limit for hours: each period of 100 ms
// draws its demand, and the part of periods above the limit is throttled.
func teach(a *analyse.Adaptive, deviation float64, hours int) {
	r := rand.New(rand.NewPCG(7, 7))
	for m := range hours * 60 {
		mean := 0.6 + 0.2*math.Sin(float64(m)/30)
		use, throttled := 0.0, 0.0
		for range 100 {
			d := max(0, mean*(1+deviation*r.NormFloat64()))
			if d > 1 {
				throttled++
			}
			use += min(d, 1)
		}
		a.Observe(now.Add(time.Duration(m)*time.Minute), use/100, throttled/100, 60)
	}
}

// A noisy service and a smooth one of the same mean end with different thresholds.
func TestNoisyAndSmooth(t *testing.T) {
	var smooth, noisy analyse.Adaptive
	teach(&smooth, 0.05, 24)
	teach(&noisy, 0.5, 24)
	s, n := smooth.Thresholds(0.05, 1), noisy.Thresholds(0.25, 1)
	t.Logf("smooth: knee %.2f up %.2f low %.2f: %s", s.Knee, s.Up, s.Low, s.Reason)
	t.Logf("noisy:  knee %.2f up %.2f low %.2f: %s", n.Knee, n.Up, n.Low, n.Reason)
	if s.Knee < n.Knee+0.15 || s.Up < n.Up+0.25 || s.Low < n.Low+0.1 {
		t.Error("the thresholds are too alike")
	}
	if s.Changes[0].Moved.Seconds <= 0 || n.Reason.Rule != knowledge.RuleKneeMoved {
		t.Errorf("nothing tells what moved them: %+v", s.Changes[0])
	}
}

func TestThresholdsStart(t *testing.T) {
	var a analyse.Adaptive
	if th := a.Thresholds(0, 1); math.Abs(th.Knee-0.7) > 1e-9 || math.Abs(th.Low-0.6) > 1e-9 ||
		math.Abs(a.Knee.At()-0.7) > 1e-6 {
		t.Errorf("%+v, knee %g", th, a.Knee.At())
	}
	for _, q := range []float64{math.NaN(), math.Inf(1), -1} {
		if th := a.Thresholds(q, 1); th.Up != analyse.TriggerLeast {
			t.Errorf("uncertainty %g: trigger %g", q, th.Up)
		}
	}
	if th := a.Thresholds(1, 0); th.Up != analyse.TriggerLeast {
		t.Errorf("no capacity: trigger %g", th.Up)
	}
}

// A knee steers from an hour of observation and ten minutes of harm on, not where a
// limit hurts only when it is used up, and until the evidence has faded for two days.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name     string
		use      float64
		harm     float64
		seconds  int // at use and harm
		harmless int // at a use of 0.2
		steers   bool
		rule     knowledge.Rule
	}{
		{"nothing", 0, 0, 0, 0, false, knowledge.RuleKneeYoung},
		{"hurts for ten minutes of an hour", 0.6, 0.5, 630, 3200, true, ""},
		{"for nine", 0.6, 0.5, 540, 3100, false, knowledge.RuleKneeYoung},
		{"of half an hour", 0.6, 0.5, 900, 900, false, knowledge.RuleKneeYoung},
		{"as much as is allowed", 0.6, 0.05, 3700, 0, false, knowledge.RuleKneeYoung},
		{"only when it is used up", 1, 0.8, 3700, 3700, false, knowledge.RuleKneeYoung},
		{"never", 0.95, 0, 3 * 3600, 0, false, knowledge.RuleKneeHarmless},
	} {
		var a analyse.Adaptive
		at := now
		for i := range max(c.seconds, c.harmless) {
			at = at.Add(time.Second)
			if i < c.seconds {
				a.Observe(at, c.use, c.harm, 1)
			}
			if i < c.harmless {
				a.Observe(at, 0.2, 0, 1)
			}
		}
		l := a.Judge()
		if l.Steers != c.steers || l.Unused().Rule != c.rule {
			t.Errorf("%s: %+v, %s", c.name, l, l.Unused())
		}
		if !c.steers {
			continue
		}
		// Under a limit that was raised nothing hurts, and the evidence fades.
		last := 0
		for hour := range 24 * 5 {
			at = at.Add(time.Hour)
			a.Observe(at, 0.2, 0, 60)
			if a.Judge().Steers {
				last = hour + 1
			}
		}
		if last < 40 || last > 56 {
			t.Errorf("%s: the lesson counted for %d hours", c.name, last)
		}
	}
	var a analyse.Adaptive
	for i := range 4000 { // half of what it takes to begin
		a.Observe(now.Add(time.Duration(i)*time.Second), 0.6-0.4*float64(min(i/300, 1)), 0.5*float64(1-min(i/300, 1)), 1)
	}
	if a.Judge().Steers {
		t.Error("begins with half of the evidence")
	}
	if a.Keep(true); !a.Judge().Steers {
		t.Error("a verdict that was kept is forgotten")
	}
}

func drawKnee(t *rapid.T, k *analyse.Knee) {
	for range rapid.IntRange(0, 40).Draw(t, "n") {
		k.Observe(now.Add(time.Duration(rapid.IntRange(0, 60*24*30).Draw(t, "minute"))*time.Minute),
			rapid.Float64Range(0, 1.5).Draw(t, "u"), rapid.Float64Range(0, 1).Draw(t, "harm"), rapid.Float64Range(0, 1e4).Draw(t,
				"s"))
	}
}

func TestKneeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a, b analyse.Knee
		drawKnee(t, &a)
		drawKnee(t, &b)
		ab, ba := a, b
		ab.Merge(&b)
		ba.Merge(&a)
		if math.Abs(ab.At()-ba.At()) > 1e-6 {
			t.Fatalf("a+b %g, b+a %g", ab.At(), ba.At())
		}
		if k := ab.At(); !(k >= analyse.KneeLeast && k <= analyse.KneeMost) {
			t.Fatalf("knee %g", k)
		}
		raw := ab.Marshal()
		var back analyse.Knee
		if err := back.Unmarshal(raw); err != nil || back != ab || len(raw) != analyse.KneeSize {
			t.Fatalf("%v, %d bytes", err, len(raw))
		}
		if err := back.Unmarshal(raw[:rapid.IntRange(0, len(raw)-1).Draw(t, "cut")]); !errors.Is(err, knowledge.ErrEncoding) {
			t.Fatal(err)
		}
		// More harm never raises the knee.
		worse := a
		at, u := now.Add(31*24*time.Hour), rapid.Float64Range(0, 1.2).Draw(t, "at")
		a.Observe(at, u, 0, 60)
		worse.Observe(at, u, 1, 60)
		if worse.At() > a.At()+1e-6 {
			t.Fatalf("harm raised the knee from %g to %g", a.At(), worse.At())
		}
	})
}

func TestAdaptiveTravels(t *testing.T) {
	var a, back analyse.Adaptive
	teach(&a, 0.5, 24)
	for _, v := range []float64{math.NaN(), math.Inf(1), -1} { // row 36
		before := a
		a.Observe(now, v, 0, 1)
		a.Observe(now, 0.5, v, 1)
		if a != before {
			t.Errorf("%g was counted", v)
		}
	}
	raw := a.Marshal()
	if err := back.Unmarshal(raw); err != nil || len(raw) != analyse.AdaptiveSize {
		t.Fatal(err, len(raw))
	}
	if x, y := a.Thresholds(0.1, 1), back.Thresholds(0.1, 1); x.Knee != y.Knee ||
		!x.Changes[0].At.Equal(y.Changes[0].At) || x.Reason != y.Reason {
		t.Errorf("%+v became %+v", x, y)
	}
}

func FuzzAdaptiveDecode(f *testing.F) {
	var a analyse.Adaptive
	teach(&a, 0.5, 2)
	raw := a.Marshal()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		var a analyse.Adaptive
		if a.Unmarshal(b) != nil {
			return
		}
		a.Observe(now, 0.5, 0.5, 1)
		a.Merge(now, &a.Knee)
		if th := a.Thresholds(0.1, 1); !(th.Knee >= analyse.KneeLeast-1e-6 && th.Knee <= analyse.KneeMost+1e-6) {
			t.Fatal(th.Knee)
		}
	})
}

func TestAdaptiveAllocatesNothing(t *testing.T) {
	var a analyse.Adaptive
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		a.Observe(now.Add(time.Duration(i)*time.Second), float64(i%100)/100, 0.1, 1)
	}); n != 0 {
		t.Fatalf("%g allocations", n)
	}
}

func BenchmarkAdaptiveObserve(b *testing.B) {
	var a analyse.Adaptive
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		a.Observe(now.Add(time.Duration(i)*time.Second), float64(i%100)/100, 0.1, 1)
	}
}
