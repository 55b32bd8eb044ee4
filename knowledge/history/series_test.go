package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

func point(at time.Time, cpu float32, mib knowledge.Bytes) knowledge.Point {
	return knowledge.Point{At: at.UnixNano(), CPU: cpu, CPULimit: 2, Throttled: 0.1, WorkingSet: mib * knowledge.MiB,
		MemoryLimit: 512 * knowledge.MiB}
}

func TestRingAgreesWithSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 300).Draw(t, "max")
		r := NewRing(limit)
		var all []knowledge.Point
		for i := range rapid.IntRange(0, 1000).Draw(t, "n") {
			p := point(epoch.Add(time.Duration(i)*time.Second), float32(i), 1)
			r.Add(p)
			all = append(all, p)
		}
		want := all[max(0, len(all)-limit):]
		if got := r.Since(nil, time.Time{}); !slices.Equal(got, want) || r.Len() != len(want) {
			t.Fatalf("%d points, want %d", len(got), len(want))
		}
		if cap(r.points) > limit {
			t.Fatalf("%d kept, bound %d", cap(r.points), limit)
		}
		last, ok := r.Last()
		if ok != (len(all) > 0) || (ok && last != all[len(all)-1]) {
			t.Fatalf("last %v %v", last, ok)
		}
		if len(want) > 0 {
			from := rapid.IntRange(0, len(want)-1).Draw(t, "from")
			if got := r.Since(nil, time.Unix(0, want[from].At)); !slices.Equal(got, want[from:]) {
				t.Fatalf("since %d: %d points", from, len(got))
			}
		}
	})
}

// collect drives a series with points and takes its chunks now and then.
func collect(points []knowledge.Point, every int) map[Tier]map[int64]Chunk {
	s, out := NewSeries(), map[Tier]map[int64]Chunk{Fine: {}, Coarse: {}}
	for i, p := range points {
		s.Add(p, time.Second, 1)
		if i%every == 0 || i == len(points)-1 {
			for _, c := range s.Chunks() {
				out[c.Tier][c.Start] = c
			}
		}
	}
	return out
}

func buckets(t interface{ Fatal(...any) }, chunks map[int64]Chunk) []Bucket {
	var out []Bucket
	for _, c := range chunks {
		b, err := c.Decode()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	slices.SortFunc(out, func(a, b Bucket) int { return a.At.Compare(b.At) })
	return out
}

func TestSeriesAgreesWithGroupedPoints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var points []knowledge.Point
		now := epoch.Add(time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "begin")))
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.Int64Range(int64(time.Second), int64(4*time.Minute)).Draw(t, "step")))
			points = append(points, point(now, rapid.Float32Range(0, 64).Draw(t, "cpu"),
				knowledge.Bytes(rapid.IntRange(0, 1<<16).Draw(t, "mib"))))
			points[len(points)-1].Throttled = rapid.Float32Range(0, 1).Draw(t, "throttled")
		}
		chunks := collect(points, 9) // at least once in 36 min
		for _, tier := range Tiers() {
			got := buckets(t, chunks[tier])
			groups := map[int64][]knowledge.Point{}
			for _, p := range points {
				at := p.At - p.At%int64(tier.Step())
				groups[at] = append(groups[at], p)
			}
			if len(got) != len(groups)-1 { // the last one is still open
				t.Fatalf("tier %d: %d buckets, want %d", tier, len(got), len(groups)-1)
			}
			for _, b := range got {
				var sum, high, throttled float64
				var ws knowledge.Bytes
				g := groups[b.At.UnixNano()]
				for _, p := range g {
					sum, high, ws = sum+float64(p.CPU), max(high, float64(p.CPU)), max(ws, p.WorkingSet)
					throttled = max(throttled, float64(p.Throttled))
				}
				if math.Abs(b.MeanCPU-sum/float64(len(g))) > 0.001 || math.Abs(b.MaxCPU-high) > 0.001 || b.WorkingSet != ws ||
					b.CPULimit != 2 || b.MemoryLimit != 512*knowledge.MiB || math.Abs(b.Throttled-throttled) > 1.0/255 {
					t.Fatalf("%+v from %d points: mean %g, max %g, working set %d", b, len(g), sum/float64(len(g)), high, ws)
				}
			}
		}
	})
}

func TestSeriesContinuesAfterRestart(t *testing.T) {
	s := NewSeries()
	for i := range 20 * 60 {
		s.Add(point(epoch.Add(time.Duration(i)*time.Second), 1, 64), time.Second, 1)
	}
	kept := s.Chunks()
	s = NewSeries()
	for _, c := range kept {
		if err := s.Restore(c); err != nil {
			t.Fatal(err)
		}
	}
	for i := 20 * 60; i < 40*60; i++ {
		s.Add(point(epoch.Add(time.Duration(i)*time.Second), 1, 64), time.Second, 1)
	}
	for _, c := range s.Chunks() {
		b, err := c.Decode()
		// The bucket that was being filled when the first run ended holds its
		// second half only, or is missing.
		least := int(40*time.Minute/c.Tier.Step()) - 2
		if err != nil || len(b) < least || b[0].At != epoch.Truncate(c.Tier.Span()).Local() && !b[0].At.Equal(epoch) {
			t.Fatalf("tier %d: %d buckets from %v, %v", c.Tier, len(b), b[0].At, err)
		}
	}
	if err := s.Restore(Chunk{Tier: 9}); !errors.Is(err, knowledge.ErrEncoding) {
		t.Fatal(err)
	}
}

// Row 41: the clock is set back; nothing breaks and recording goes on.
func TestSeriesClockSetBack(t *testing.T) {
	s := NewSeries()
	for i := range 120 {
		s.Add(point(epoch.Add(time.Duration(i)*time.Minute), 1, 64), time.Second, 1)
	}
	s.Chunks()
	earlier := epoch.Add(-24 * time.Hour)
	for i := range 300 {
		s.Add(point(earlier.Add(time.Duration(i)*time.Minute), 2, 64), time.Second, 1)
	}
	want := 2 // the running hour and the running day
	for _, c := range s.Chunks() {
		b, err := c.Decode()
		if err != nil || len(b) == 0 {
			t.Fatalf("tier %d: %v, %v", c.Tier, b, err)
		}
		if b[0].At.Before(epoch.Add(-12*time.Hour)) && b[0].MeanCPU == 2 && c.Start == s.tiers[c.Tier].chunk.Start {
			want--
		}
	}
	if want != 0 {
		t.Fatalf("%d of the running chunks are missing", want)
	}
}

// firstChunk is a chunk as the first version wrote it: without the last three
// figures of each bucket.
func firstChunk(data []byte) []byte {
	out := []byte{firstVersion}
	r := reader{data: data[1:]}
	for len(r.data) > 0 {
		for field := range 10 {
			v := uint64(0)
			if field == 3 {
				out = append(out, r.byte())
				continue
			}
			if v = r.uint(math.MaxUint64); field < 7 {
				out = binary.AppendUvarint(out, v)
			}
		}
	}
	return out
}

// A chunk of the first version is read, its use standing for demand, and goes on in
// the present one.
func TestChunkOfTheFirstVersion(t *testing.T) {
	s := NewSeries()
	for i := range 30 * 60 {
		s.Add(point(epoch.Add(time.Duration(i)*time.Second), 1.5, 64), time.Second, 1)
	}
	for _, c := range s.Chunks() {
		old := Chunk{c.Tier, c.Start, firstChunk(c.Data)}
		got, err := old.Decode()
		want, _ := c.Decode()
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
		again := NewSeries()
		if err := again.Restore(old); err != nil {
			t.Fatal(err)
		}
		p := point(epoch.Add(40*time.Minute), 1, 64)
		p.Demand = 3
		again.Add(p, time.Second, 2)
		again.Add(point(epoch.Add(time.Hour-time.Second), 1, 64), time.Second, 2)
		again.Add(point(epoch.Add(time.Hour), 1, 64), time.Second, 2)
		all := again.Running(c.Tier)
		last := all[len(all)-1]
		if c.Tier == Fine {
			last = all[len(all)-2]
		}
		if len(all) < len(want)+1 || !slices.Equal(all[:len(want)], want) || last.Containers != 2 || last.MaxDemand < 1 {
			t.Errorf("tier %d goes on with %+v", c.Tier, all[len(want):])
		}
	}
	if got := s.Running(9); got != nil {
		t.Errorf("a tier that is none: %v", got)
	}
}

// The mean weighs a point by the time that it speaks for, and demand is never under
// use.
func TestSeriesWeighsAndKeepsDemand(t *testing.T) {
	s := NewSeries()
	add := func(second int, use, demand float32, lasted time.Duration, containers int) {
		p := point(epoch.Add(time.Duration(second)*time.Second), use, 1)
		p.Demand = demand
		s.Add(p, lasted, containers)
	}
	add(0, 4, 6, time.Second, 1)
	add(10, 1, 0, 9*time.Second, 3)
	if b := s.Running(Fine); len(b) != 0 {
		t.Fatalf("%+v before a minute is complete", b)
	}
	add(60, 0, 0, time.Second, 1)
	b := s.Running(Fine)
	if len(b) != 1 || b[0].MeanCPU != 1.3 || b[0].MaxCPU != 4 || b[0].MeanDemand != 1.5 || b[0].MaxDemand != 6 ||
		b[0].Containers != 3 {
		t.Errorf("%+v", b)
	}
}

// Row 36: what is not a number is not counted; what is enormous is bounded.
func TestSeriesAbsurdPoints(t *testing.T) {
	s := NewSeries()
	nan := float32(math.NaN())
	for i, p := range []knowledge.Point{
		{At: -1}, {At: 1, CPU: nan}, {At: 1, Demand: nan}, {At: 1, CPULimit: float32(math.Inf(1))}, {At: 1, Throttled: -1},
	} {
		s.Add(p, time.Second, 1)
		if s.tiers[0].opened {
			t.Fatalf("point %d was counted", i)
		}
	}
	s.Add(knowledge.Point{At: epoch.UnixNano(), CPU: math.MaxFloat32, CPULimit: math.MaxFloat32, Throttled: 9,
		WorkingSet: math.MaxInt64, MemoryLimit: -5}, time.Hour, -7)
	s.Add(point(epoch, 1, 1), 0, 1)
	s.Add(point(epoch.Add(time.Minute), 1, 1), time.Second, 1)
	c := s.Chunks()
	if len(c) != 1 {
		t.Fatalf("%d chunks", len(c))
	}
	b, err := c[0].Decode()
	if err != nil || len(b) != 1 || b[0].MaxCPU != knowledge.MaxCPU.Cores() || b[0].WorkingSet != knowledge.MaxBytes ||
		b[0].MemoryLimit != 0 || b[0].Throttled != 1 || b[0].Containers != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
}

func TestChunkSize(t *testing.T) {
	var points []knowledge.Point
	for i := range 3 * 24 * 3600 {
		at := epoch.Truncate(24 * time.Hour).Add(time.Duration(i) * time.Second)
		points = append(points, point(at, float32(i%977)/100, knowledge.Bytes(200+i%313)))
	}
	for tier, chunks := range collect(points, 600) {
		for start, c := range chunks {
			if n := tier.Buckets(); len(c.Data) > 1+15*n {
				t.Errorf("tier %d at %d: %d bytes for %d buckets", tier, start, len(c.Data), n)
			}
		}
	}
}

func FuzzChunkDecode(f *testing.F) {
	var points []knowledge.Point
	for i := range 500 {
		points = append(points, point(epoch.Add(time.Duration(i)*20*time.Second), float32(i%7), knowledge.Bytes(i)))
	}
	for tier, chunks := range collect(points, 10) {
		for start, c := range chunks {
			f.Add(uint8(tier), start, c.Data)
			f.Add(uint8(tier), start, firstChunk(c.Data))
		}
	}
	f.Fuzz(func(t *testing.T, tier uint8, start int64, data []byte) {
		c := Chunk{Tier: Tier(tier), Start: start, Data: data}
		b, err := c.Decode()
		s := NewSeries()
		if again := s.Restore(c); (again == nil) != (err == nil) {
			t.Fatalf("decode %v, restore %v", err, again)
		}
		if err != nil {
			return
		}
		if len(b) > c.Tier.Buckets() || !slices.IsSortedFunc(b, func(a, b Bucket) int { return a.At.Compare(b.At) }) {
			t.Fatalf("%d buckets out of order", len(b))
		}
		if kept := s.tiers[c.Tier].chunk; len(b) > 0 && data[0] == chunkVersion && !bytes.Equal(kept.Data, data) {
			t.Fatal("restored something else")
		} else if again, err := kept.Decode(); len(b) > 0 && (err != nil || !slices.Equal(again, b)) {
			t.Fatalf("restored as %+v, %v", again, err)
		}
		s.Add(point(epoch, 1, 1), time.Second, 1)
		s.Add(point(epoch.Add(time.Hour), 1, 1), time.Second, 1)
		for _, c := range s.Chunks() {
			if _, err := c.Decode(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkSeriesAdd(b *testing.B) {
	s, now := NewSeries(), epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		s.Add(point(now, 1, 64), time.Second, 1)
	}
}
