package plan_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

// noise is a small deterministic source of numbers from 0 to 1.
type noise uint64

func (n *noise) next() float64 {
	*n = *n*6364136223846793005 + 1442695040888963407
	return float64(*n>>11) / (1 << 53)
}

// replayed is what a recommender would have given, in force during each step and
// decided from the steps before, and the shares of demand that it wasted and
// left unserved after a first warm share of the values.
func replayed(
	step time.Duration, risk plan.Risk, values []float64, warm float64,
) (given []float64, waste, unserved float64) {
	r := plan.NewRecommender(step)
	var over, under, demand float64
	for i, v := range values {
		limit := values[0]
		if rec, ok := r.Recommend(risk); ok {
			limit = rec.Limit
		}
		given = append(given, limit)
		if float64(i) >= warm*float64(len(values)) {
			over += max(limit-v, 0)
			under += max(v-limit, 0)
			demand += v
		}
		r.Observe(v, false)
	}
	return given, over / demand, under / demand
}

// shapes are workloads of the kinds that real ones have.
func shapes() map[string][]float64 {
	const n = 4000
	make := func(f func(i int, u, v float64) float64) []float64 {
		rnd := noise(7)
		out := []float64{}
		for i := range n {
			out = append(out, max(f(i, rnd.next(), rnd.next()), 0))
		}
		return out
	}
	level := 1.0
	return map[string][]float64{
		"steady":  make(func(int, float64, float64) float64 { return 1 }),
		"noisy":   make(func(_ int, u, v float64) float64 { return 1 + 0.3*(u+v-1) }),
		"diurnal": make(func(i int, u, _ float64) float64 { return 2 + math.Sin(float64(i)/288*2*math.Pi) + 0.2*u }),
		"ramp":    make(func(i int, u, _ float64) float64 { return 1 + float64(i)/1000 + 0.1*u }),
		"steps":   make(func(i int, u, _ float64) float64 { return float64(1+i/500%3) + 0.1*u }),
		"wandering": make(func(_ int, u, v float64) float64 {
			level = max(level+0.1*(u-0.5), 0.2)
			return level + 0.05*v
		}),
	}
}

// The margins are learned: what stays unserved comes near what was asked for,
// whatever the shape, and a higher risk is cheaper.
func TestRecommendKeepsTheShortage(t *testing.T) {
	for name, values := range shapes() {
		wasteBefore := math.Inf(1)
		for _, risk := range []plan.Risk{plan.RiskLow, plan.RiskNormal, plan.RiskHigh} {
			_, waste, unserved := replayed(5*time.Minute, risk, values, 0.3)
			t.Logf("%-10s asked %.1f%% unserved: %.2f%%, wasted %.1f%%", name, 100*risk.Share(), 100*unserved, 100*waste)
			if unserved > 1.5*risk.Share()+0.001 {
				t.Errorf("%s: %.2f%% unserved, asked for %.2f%%", name, 100*unserved, 100*risk.Share())
			}
			if waste > wasteBefore*1.001 {
				t.Errorf("%s: a higher risk wastes more: %.3f after %.3f", name, waste, wasteBefore)
			}
			wasteBefore = waste
		}
	}
}

// At the shortage that it comes to, it wastes less than the maximum of the last
// hour scaled to the same shortage: the cheap rule that is hard to beat.
func TestRecommendBeatsTheLastHoursMaximum(t *testing.T) {
	var ratios []float64
	for name, values := range shapes() {
		if name == "steady" {
			continue
		}
		given, _, _ := replayed(5*time.Minute, plan.RiskNormal, values, 0)
		var hour []float64
		for i := range values {
			most := 0.0
			for _, v := range values[max(i-12, 0):max(i, 1)] {
				most = max(most, v)
			}
			hour = append(hour, most)
		}
		ours, theirs := wasteAt(given, values, 0.005), wasteAt(hour, values, 0.005)
		t.Logf("%-10s waste at 0.5%% unserved: %.3f, last hour's maximum %.3f", name, ours, theirs)
		ratios = append(ratios, ours/theirs)
		if ours > 1.1*theirs {
			t.Errorf("%s: wastes %.3f, the last hour's maximum %.3f", name, ours, theirs)
		}
	}
	mean := 0.0
	for _, r := range ratios {
		mean += math.Log(r) / float64(len(ratios))
	}
	if math.Exp(mean) > 0.9 {
		t.Errorf("wastes %.2f of the last hour's maximum in the mean, want 0.9", math.Exp(mean))
	}
}

// wasteAt scales a series until so much is unserved, and says what it wastes.
func wasteAt(given, values []float64, shortage float64) float64 {
	lo, hi := 0.0, 64.0
	at := func(k float64) (over, under, sum float64) {
		for i, v := range values {
			over += max(k*given[i]-v, 0)
			under += max(v-k*given[i], 0)
			sum += v
		}
		return
	}
	for range 60 {
		mid := (lo + hi) / 2
		if _, under, sum := at(mid); under > shortage*sum {
			lo = mid
		} else {
			hi = mid
		}
	}
	over, _, sum := at(hi)
	return over / sum
}

// A service that falls silent and comes back finds its place kept for a while.
func TestRecommendRemembersWhatFellSilent(t *testing.T) {
	r := plan.NewRecommender(5 * time.Minute)
	rnd := noise(3)
	for range 600 {
		r.Observe(1+0.1*rnd.next(), false)
	}
	before, _ := r.Recommend(plan.RiskLow)
	for range 6 {
		r.Observe(0.01, false)
	}
	after, _ := r.Recommend(plan.RiskLow)
	t.Logf("before %.2f, after half an hour of silence %.2f by %q", before.Limit, after.Limit, after.Model)
	if after.Limit < 0.5*before.Limit {
		t.Errorf("half an hour of silence, and %.2f of %.2f is left", after.Limit, before.Limit)
	}
}

// While little is known, nothing goes under the highest value seen.
func TestRecommendHoldsWhileYoung(t *testing.T) {
	r := plan.NewRecommender(10 * time.Second)
	if _, ok := r.Recommend(plan.RiskHigh); ok {
		t.Fatal("an answer from nothing")
	}
	r.Observe(4, false)
	for range 100 {
		r.Observe(0.1, false)
	}
	if rec, ok := r.Recommend(plan.RiskHigh); !ok || rec.Limit < 4 || !rec.Held {
		t.Errorf("after 17 minutes: %+v", rec)
	}
	for range 3000 {
		r.Observe(0.1, false)
	}
	if rec, _ := r.Recommend(plan.RiskHigh); rec.Limit > 1 || rec.Held {
		t.Errorf("after 8 hours: %+v", rec)
	}
}

// Throttled use is a lower bound: it never lowers what is expected.
func TestRecommendCensored(t *testing.T) {
	free, held := plan.NewRecommender(10*time.Second), plan.NewRecommender(10*time.Second)
	for range 500 {
		free.Observe(1, false)
		held.Observe(1, false)
	}
	for range 500 {
		free.Observe(0.2, false)
		held.Observe(0.2, true)
	}
	a, _ := free.Recommend(plan.RiskNormal)
	b, _ := held.Recommend(plan.RiskNormal)
	if b.Limit < 0.95 || a.Limit > 0.8*b.Limit {
		t.Errorf("a fall to 0.2 recommends %.2f, throttled at 0.2 %.2f", a.Limit, b.Limit)
	}
}

// Whatever is observed, in whatever unit, an answer is finite, not negative, the
// same twice, and survives the disk.
func TestRecommendAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		step := time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "step"))
		value := rapid.OneOf(rapid.Float64Range(0, 10),
			rapid.SampledFrom([]float64{0, 1, math.NaN(), math.Inf(1), -1, 1e-300, 1e300}))
		a := plan.NewRecommender(step)
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			a.Observe(value.Draw(t, "value"), rapid.Bool().Draw(t, "censored"))
		}
		risk := plan.Risk(rapid.IntRange(-1, 4).Draw(t, "risk"))
		x, ok := a.Recommend(risk)
		if y, again := a.Recommend(risk); x != y || ok != again {
			t.Fatalf("twice the same, and two answers: %+v, %+v", x, y)
		}
		if !(x.Limit >= 0) || math.IsInf(x.Limit, 0) || !(x.Margin >= 0) {
			t.Fatalf("out of bounds: %+v", x)
		}
		back, err := plan.UnmarshalRecommender(a.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if y, _ := back.Recommend(risk); x != y {
			t.Fatalf("after the disk %+v, before %+v", y, x)
		}
		a.Observe(3, false)
		back.Observe(3, false)
		if !bytes.Equal(a.Marshal(), back.Marshal()) {
			t.Fatal("what was read back goes on differently")
		}
	})
}

// A record of version 1 has no load-adjusted percentiles: what it has goes on, and
// what it advises is near what it would have been.
func TestRecommenderOfVersion1(t *testing.T) {
	r := plan.NewRecommender(time.Minute)
	rnd := noise(5)
	for range 5000 {
		r.Observe(1+rnd.next(), false)
	}
	const head, ladder = 1 + 8 + 8 + 8 + 8, 24 * 2 * 4
	b := r.Marshal()
	old := append([]byte{1}, b[1:head+23*ladder]...)
	old = append(old, b[head+27*ladder:]...)
	back, err := plan.UnmarshalRecommender(old)
	if err != nil {
		t.Fatal(err)
	}
	now, _ := r.Recommend(plan.RiskNormal)
	was, _ := back.Recommend(plan.RiskNormal)
	if was.Seen != now.Seen || math.Abs(was.Limit/now.Limit-1) > 0.05 {
		t.Errorf("version 1 says %+v, version 2 %+v", was, now)
	}
}

// The greatest demand that is believed comes back from the disk; a record whose sums would
// overflow is refused.
func TestRecommenderNumbersOfARecord(t *testing.T) {
	r := plan.NewRecommender(time.Hour)
	for range 20_000 {
		r.Observe(float64(knowledge.MaxBytes), false)
	}
	r.Observe(0, false)
	b := r.Marshal()
	back, err := plan.UnmarshalRecommender(b)
	if err != nil {
		t.Fatal(err)
	}
	back.Observe(float64(knowledge.MaxBytes), false)
	if x, _ := back.Recommend(plan.RiskNormal); !(x.Limit > 0) || !(x.Waste >= 0) || math.IsInf(x.Limit+x.Waste, 0) {
		t.Errorf("%+v", x)
	}
	const weight, demand = 1 + 8, 1 + 8 + 8
	for _, bad := range []struct {
		at    int
		value float64
	}{{weight, 0}, {weight, 1e300}, {demand, 1e300}, {demand, -1}, {demand, math.NaN()}} {
		b := bytes.Clone(b)
		binary.LittleEndian.PutUint64(b[bad.at:], math.Float64bits(bad.value))
		if _, err := plan.UnmarshalRecommender(b); !errors.Is(err, knowledge.ErrEncoding) {
			t.Errorf("%v at byte %d: %v", bad.value, bad.at, err)
		}
	}
	const costs = demand + 8 + 8
	binary.LittleEndian.PutUint32(b[costs:], math.Float32bits(3e38))
	if _, err := plan.UnmarshalRecommender(b); !errors.Is(err, knowledge.ErrEncoding) {
		t.Errorf("a cost of 3e38: %v", err)
	}
}

func FuzzUnmarshalRecommender(f *testing.F) {
	r := plan.NewRecommender(time.Minute)
	r.Observe(1, false)
	f.Add(r.Marshal())
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := plan.UnmarshalRecommender(b)
		if err != nil {
			return
		}
		for range 5 {
			r.Observe(1, false)
		}
		if x, _ := r.Recommend(plan.RiskNormal); !(x.Limit >= 0) || math.IsInf(x.Limit, 0) {
			t.Fatalf("%+v", x)
		}
	})
}

func TestRiskOf(t *testing.T) {
	if plan.RiskOf(knowledge.ClassLatency) >= plan.RiskOf(knowledge.ClassServing) ||
		plan.RiskOf(knowledge.ClassServing) >= plan.RiskOf(knowledge.ClassBatch) {
		t.Error("latency before serving before batch")
	}
}

func TestRecommendAllocatesNothing(t *testing.T) {
	r := plan.NewRecommender(10 * time.Second)
	if n := testing.AllocsPerRun(1000, func() {
		r.Observe(1, false)
		r.Recommend(plan.RiskNormal)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkRecommend(b *testing.B) {
	r := plan.NewRecommender(10 * time.Second)
	rnd := noise(1)
	b.ReportAllocs()
	for b.Loop() {
		r.Observe(rnd.next(), false)
		r.Recommend(plan.RiskNormal)
	}
}

// The advice is the floor where the percentile is adaptive and an hour was
// watched; otherwise the percentile holds, a person's own above all.
func TestAdviceIsTheFloor(t *testing.T) {
	host := knowledge.Host{CPUs: 4, Memory: 16 * knowledge.GiB}
	for _, c := range []struct {
		name       string
		percentile float64
		seen       time.Duration
		want       knowledge.NanoCPU
		rule       knowledge.Rule
	}{
		{"adaptive", 0, time.Hour, 800 * core / 1000, knowledge.RuleAdvice},
		{"young", 0, 59 * time.Minute, core, knowledge.RuleProfile},
		{"a person's percentile", 0.9, time.Hour, core, knowledge.RuleProfile},
	} {
		p := serving(4)
		p.CPUPercentile = c.percentile
		f := plan.Facts{CPU: core, ObservedFor: 2 * time.Hour, Advice: plan.Advice{CPU: 800 * core / 1000, Seen: c.seen,
			Model: "last value", Margin: 1.1}}
		e := plan.Deliberate(epoch, f, &p, host, knowledge.Envelope{})
		if e.CPU.Min != c.want || e.Reason.Rule != c.rule {
			t.Errorf("%s: floor %v by %q, want %v by %q", c.name, e.CPU.Min, e.Reason, c.want, c.rule)
		}
	}
}
