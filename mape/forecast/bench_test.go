package forecast

import (
	"math"
	"syscall"
	"testing"
	"time"
)

// BenchmarkObserve: one value of one model with the daemon's four horizons (10 s,
// 1 min, 5 min, 1 h) and three levels, and the search for a period with it at its
// cadence. cpu-ns/op is what counts on a machine that others use.
func BenchmarkObserve(b *testing.B) {
	b.Run("2 horizons", func(b *testing.B) { observe(b, testHorizons, true) })
	b.Run("4 horizons", func(b *testing.B) { observe(b, []int{1, 6, 30, 360}, true) })
	b.Run("4 horizons, no search", func(b *testing.B) { observe(b, []int{1, 6, 30, 360}, false) })
}

func observe(b *testing.B, horizons []int, search bool) {
	m := New(Config{Step: 10 * time.Second, Horizons: horizons, Levels: testLevels})
	values := noisy(1<<14, 1)
	for _, v := range values {
		m.Observe(v, false)
	}
	if !search {
		m.fineNext, m.coarseNext = math.MaxInt, math.MaxInt
	}
	i := 0
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		m.Observe(values[i&(len(values)-1)], false)
		i++
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// noisy is a daily sine of 10-s steps with noise.
func noisy(n int, seed uint64) []float64 {
	c := chance(seed)
	out := make([]float64, n)
	for i := range out {
		out[i] = 2 + float64(i%8640)/8640 + c.unit()
	}
	return out
}
