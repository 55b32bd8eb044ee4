package profile

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestProfileOfADay(t *testing.T) {
	p := New()
	for i := range 24 * 3600 {
		at := epoch.Add(time.Duration(i) * time.Second)
		cores := 0.5
		if i%10 == 0 { // a tenth of the time
			cores = 2
		}
		p.AddCPU(at, cores, time.Second, i%10 == 0)
		if i%60 == 0 {
			p.AddMemoryPeak(at, 300*knowledge.MiB)
		}
	}
	for _, c := range []struct{ q, least, most float64 }{{0.5, 0.5, 0.54}, {0.89, 0.5, 0.54}, {0.95, 2, 2.12}} {
		if got := p.CPU(c.q); got < c.least || got > c.most {
			t.Errorf("p%g is %g cores, want %g to %g", c.q*100, got, c.least, c.most)
		}
	}
	if got := p.MemoryNeed(0.98); got < 300*knowledge.MiB || got > 320*knowledge.MiB {
		t.Errorf("needs %s", got)
	}
	if got := p.ObservedFor(); got != 24*time.Hour {
		t.Errorf("observed for %s", got)
	}
	if got := p.CensoredShare(); math.Abs(got-0.1) > 1e-6 {
		t.Errorf("censored %g", got)
	}
	if !p.First().Equal(epoch) || !p.Last().Equal(epoch.Add(24*time.Hour-time.Second)) {
		t.Errorf("from %v to %v", p.First(), p.Last())
	}
	if got := p.CPUWeight(); got < 60_000 || got > 86_400 {
		t.Errorf("weight %g s", got)
	}
	if peaks := p.Peaks(); len(peaks) != 2 || peaks[1].CPU != 2 || peaks[0].Memory != 300*knowledge.MiB {
		t.Errorf("peaks %+v", peaks)
	}
}

// A change of regime is followed by the hour's histogram when it grows, and by
// the day's, slowly, when it shrinks.
func TestMemoryNeedFollowsGrowthAtOnce(t *testing.T) {
	p, at := New(), epoch
	for range 24 * 60 {
		at = at.Add(time.Minute)
		p.AddMemoryPeak(at, 100*knowledge.MiB)
	}
	for range 20 {
		at = at.Add(time.Minute)
		p.AddMemoryPeak(at, 500*knowledge.MiB)
	}
	if got := p.MemoryNeed(0.98); got < 500*knowledge.MiB {
		t.Errorf("20 minutes at 500 MiB: %s", got)
	}
	for range 6 * 60 {
		at = at.Add(time.Minute)
		p.AddMemoryPeak(at, 100*knowledge.MiB)
	}
	if got := p.MemoryMax(); got < 500*knowledge.MiB {
		t.Errorf("the peak is forgotten after 6 h: %s", got)
	}
}

// The highest peak is kept for eight days, and then given back.
func TestHighestPeakIsGivenBackInDays(t *testing.T) {
	p := New()
	for hour := range 12 * 24 {
		at, use := epoch.Add(time.Duration(hour)*time.Hour), 100*knowledge.MiB
		if hour < 24 {
			use = 972 * knowledge.MiB
		}
		p.AddMemoryPeak(at, use)
		got := p.MemoryNeed(1)
		if hour < 7*24 && got < 972*knowledge.MiB || hour > 9*24 && got > 110*knowledge.MiB {
			t.Fatalf("day %d: %s", hour/24, got)
		}
	}
}

func TestStartsGrowthOutcomes(t *testing.T) {
	p := New()
	p.AddStart(epoch, 12*time.Second)
	p.AddStart(epoch, 14*time.Second)
	if got := p.StartTime(1); got < 14*time.Second || got > 15*time.Second || math.Abs(p.Starts()-2) > 0.01 {
		t.Errorf("start %s of %g", got, p.Starts())
	}
	p.AddGrowth(epoch, 1000)
	p.AddGrowth(epoch.Add(time.Hour), 10)
	if got := p.Growth(epoch.Add(24 * time.Hour)); math.Abs(got-500) > 1 {
		t.Errorf("growth %g after a day", got)
	}
	for _, r := range []knowledge.Result{knowledge.ResultApplied, knowledge.ResultAdjusted, knowledge.ResultReverted,
		knowledge.ResultFailed, knowledge.ResultRefused, 99} {
		p.AddOutcome(knowledge.ResourceMemory, knowledge.Shrink, r)
	}
	p.AddOutcome(9, 9, knowledge.ResultApplied)
	if got := p.Outcomes(knowledge.ResourceMemory, knowledge.Shrink); got != (Tally{2, 1, 1}) {
		t.Errorf("outcomes %+v", got)
	}
	if got := p.Outcomes(knowledge.ResourceCPU, knowledge.Shrink); got != (Tally{}) {
		t.Errorf("outcomes of another kind %+v", got)
	}
}

// Row 36: absurd figures leave a profile as it was. Row 41: so does a gap in
// time; a peak from a future that was none gives way.
func TestProfileAbsurdInput(t *testing.T) {
	p := New()
	empty := p.Marshal()
	for _, v := range []float64{math.NaN(), math.Inf(1), -1, 1e18} {
		p.AddCPU(epoch, v, time.Second, false)
		p.AddGrowth(epoch, v)
	}
	p.AddCPU(epoch, 1, -time.Second, false)
	p.AddMemoryPeak(epoch, -1)
	p.AddMemoryPeak(epoch, math.MaxInt64)
	p.AddStart(epoch, -1)
	if !bytes.Equal(p.Marshal(), empty) {
		t.Error("absurd figures were counted")
	}
	p.AddCPU(epoch, 1, 24*time.Hour, false)
	if got := p.ObservedFor(); got != maxStep {
		t.Errorf("one sample after a gap speaks for %s", got)
	}
	for i := range 40 {
		p.AddCPU(epoch.Add(365*24*time.Hour+time.Duration(i)*24*time.Hour), 9, time.Second, false)
	}
	for i := range 8 {
		p.AddCPU(epoch.Add(time.Duration(i)*24*time.Hour), 1, time.Second, false)
	}
	for _, k := range p.Peaks() {
		if k.CPU != 1 {
			t.Errorf("a peak of a year that has not come: %+v", k)
		}
	}
}

func draw(t *rapid.T, name string) *Profile {
	p := New()
	for range rapid.IntRange(0, 30).Draw(t, name) {
		at := epoch.Add(time.Duration(rapid.Int64Range(0, int64(20*24*time.Hour)).Draw(t, "at")))
		p.AddCPU(at, rapid.Float64Range(0, 64).Draw(t, "cores"), time.Second, rapid.Bool().Draw(t, "censored"))
		p.AddMemoryPeak(at, knowledge.Bytes(rapid.Int64Range(0, int64(64*knowledge.GiB)).Draw(t, "peak")))
		p.AddGrowth(at, rapid.Float64Range(0, 1e6).Draw(t, "growth"))
		p.AddStart(at, time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "start")))
		p.AddOutcome(knowledge.Resource(rapid.IntRange(0, 1).Draw(t, "resource")),
			knowledge.Verb(rapid.IntRange(0, 2).Draw(t, "verb")),
			knowledge.Result(rapid.IntRange(0, 6).Draw(t, "result")))
	}
	return p
}

func TestProfileEncodesAndDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := draw(t, "p")
		p.Epoch, p.Version = rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "version")
		b := p.Marshal()
		got, err := Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Marshal(), b) || len(b) > MaxEncoded {
			t.Fatal("decoding is not the inverse of encoding")
		}
		if _, err := Unmarshal(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, knowledge.ErrEncoding) {
			t.Fatalf("cut short: %v", err)
		}
		if !bytes.Equal(p.Clone().Marshal(), b) {
			t.Fatal("a clone differs")
		}
	})
}

// alike compares what readers see, within the rounding of float32.
func alike(a, b *Profile) bool {
	near := func(x, y float64) bool { return math.Abs(x-y) <= 0.06*max(x, y)+0.011 }
	ok := a.observed == b.observed && a.censored == b.censored && a.first == b.first && a.last == b.last &&
		a.peaks == b.peaks && a.tallies == b.tallies && near(a.CPUMean(), b.CPUMean()) &&
		near(a.CPUWeight(), b.CPUWeight()) &&
		near(a.day.Total(), b.day.Total()) && near(a.Starts(), b.Starts())
	at := epoch.Add(30 * 24 * time.Hour)
	return ok && math.Abs(a.Growth(at)-b.Growth(at)) <= 1e-9*a.Growth(at)
}

func TestProfileMergeLaws(t *testing.T) {
	sum := func(t *rapid.T, ps ...*Profile) *Profile {
		out := New()
		for _, p := range ps {
			if err := out.Merge(p); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t, "a"), draw(t, "b"), draw(t, "c")
		if !alike(sum(t, a, b), sum(t, b, a)) {
			t.Fatal("a+b is not b+a")
		}
		if !alike(sum(t, sum(t, a, b), c), sum(t, a, sum(t, b, c))) {
			t.Fatal("(a+b)+c is not a+(b+c)")
		}
	})
	a, b := New(), New()
	a.AddGrowth(epoch, 100)
	b.AddGrowth(epoch.Add(24*time.Hour), 60)
	if err := a.Merge(b); err != nil || a.Growth(epoch.Add(24*time.Hour)) != 60 {
		t.Fatalf("growth %g, %v: 100 of a day ago is 50 now, less than 60", a.Growth(epoch.Add(24*time.Hour)), err)
	}
	a.Epoch, b.Version = 1, 7
	if !a.Newer(b) || b.Newer(a) || a.Newer(a) {
		t.Fatal("the order of (epoch, version) is wrong")
	}
}

func TestProfileAllocatesNothing(t *testing.T) {
	p, at := New(), epoch
	n := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Second)
		p.AddCPU(at, 1.5, time.Second, false)
		p.AddMemoryPeak(at, 64*knowledge.MiB)
		p.AddGrowth(at, 100)
		p.AddStart(at, time.Second)
		p.AddOutcome(knowledge.ResourceCPU, knowledge.Grow, knowledge.ResultApplied)
	})
	if n != 0 {
		t.Fatalf("%g allocations", n)
	}
}

func FuzzProfileDecode(f *testing.F) {
	p := New()
	f.Add(p.Marshal())
	for i := range 100 {
		at := epoch.Add(time.Duration(i) * time.Hour)
		p.AddCPU(at, float64(i%7), time.Second, i%2 == 0)
		p.AddMemoryPeak(at, knowledge.Bytes(i)*knowledge.MiB)
		p.AddStart(at, time.Duration(i)*time.Second)
		p.AddGrowth(at, 5)
		p.AddOutcome(knowledge.ResourceCPU, knowledge.Grow, knowledge.ResultApplied)
	}
	f.Add(p.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Unmarshal(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatal("accepted other bytes than it writes")
		}
		p.AddCPU(epoch, 1, time.Second, false)
		p.AddMemoryPeak(epoch, knowledge.MiB)
		if err := p.Merge(p.Clone()); err != nil {
			t.Fatal(err)
		}
		if v := p.CPU(0.95) + float64(p.MemoryNeed(0.98)) + p.Growth(epoch); math.IsNaN(v) || v < 0 {
			t.Fatal(v)
		}
		if _, err := Unmarshal(p.Marshal()); err != nil {
			t.Fatalf("what it became cannot be read: %v", err)
		}
	})
}

func BenchmarkAddCPU(b *testing.B) {
	p, at := New(), epoch
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(time.Second)
		p.AddCPU(at, 1.5, time.Second, false)
	}
}

func BenchmarkMarshal(b *testing.B) {
	p := New()
	for i := range 10000 {
		at := epoch.Add(time.Duration(i) * time.Minute)
		p.AddCPU(at, float64(i%70)/10, time.Second, false)
		p.AddMemoryPeak(at, knowledge.Bytes(100+i%50)*knowledge.MiB)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(p.Marshal())))
	}
}
