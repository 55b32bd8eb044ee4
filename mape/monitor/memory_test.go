package monitor

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const mib = knowledge.MiB

// memory sets the levels: usage counts page cache, of which inactive is no demand.
func (b *box) memory(anon, cache knowledge.Bytes) {
	b.s.Anon, b.s.File, b.s.InactiveFile = anon, cache, cache
	b.s.Reclaimable, b.s.CleanFile = cache, cache
	b.s.MemoryUsage = anon + cache
}

// Page cache looks like demand until memory.stat is read; then the window is
// right at once, and so is the growth that the cache had faked.
func TestPageCacheIsNotDemand(t *testing.T) {
	b := newBox()
	b.memory(100*mib, 0)
	b.read(memTier)
	for i := range 5 {
		b.memory(100*mib, knowledge.Bytes(100*(i+1))*mib)
		b.step(time.Second, 1, 0, 0)
	}
	w := &b.t.Window
	if w.WorkingSet != 600*mib || w.Growth < float64(99*mib) || b.t.FreshDetail() {
		t.Fatalf("before the detail: working set %s, growth %.0f, fresh %v", w.WorkingSet, w.Growth, b.t.FreshDetail())
	}
	b.s.Have = memTier | knowledge.HasMemory // no other part of the fast tier beside it
	if ok, _ := b.t.Observe(&b.s, cpus); !ok {
		t.Fatal("the detail was dropped")
	}
	if w.WorkingSet != 100*mib || w.Growth != 0 || !b.t.FreshDetail() {
		t.Errorf("after the detail: working set %s, growth %.0f, fresh %v", w.WorkingSet, w.Growth, b.t.FreshDetail())
	}
	if w.Hard != 100*mib {
		t.Errorf("hard %s", w.Hard)
	}
}

func TestGrowthIsAnUpperBound(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second} {
		b := newBox()
		b.memory(64*mib, 0)
		b.read(memTier)
		w := &b.t.Window
		for range 20 * time.Second / every {
			b.memory(b.s.Anon+knowledge.Bytes(5*every.Seconds()*float64(mib)), 0)
			b.step(every, 1, 0, 0)
		}
		if rate := 5 * float64(mib); w.Growth < 0.99*rate || w.Growth > 1.2*rate {
			t.Errorf("every %s: growth %.1f MiB/s of 5", every, w.Growth/float64(mib))
		}
		for range 20 * time.Second / every {
			b.memory(b.s.Anon-knowledge.Bytes(every.Seconds()*float64(mib)), 0)
			b.step(every, 1, 0, 0)
		}
		if w.Growth != 0 {
			t.Errorf("every %s: growth %.0f of memory that falls", every, w.Growth)
		}
	}
}

// Readings of CPU alone come between those of memory: no growth out of nothing.
func TestReadingsWithoutMemory(t *testing.T) {
	b := newBox()
	b.memory(500*mib, 0)
	b.read(memTier)
	for i := range 100 {
		b.at = b.at.Add(100 * time.Millisecond)
		b.s.At, b.s.Have = b.at, knowledge.HasCPU|knowledge.HasThrottle
		if i%5 == 0 {
			b.s.Have |= knowledge.HasMemory
		}
		if i%50 == 1 { // the detail beside a reading of CPU alone
			b.s.Have |= memTier
		}
		b.t.Observe(&b.s, cpus)
		if w := &b.t.Window; w.Growth != 0 || w.WorkingSet != 500*mib {
			t.Fatalf("reading %d: growth %.0f, working set %s", i, w.Growth, w.WorkingSet)
		}
	}
}

// One allocation seen over 100 ms is not a flood.
func TestOneAllocationIsNoFlood(t *testing.T) {
	b := newBox()
	b.memory(64*mib, 0)
	b.read(memTier)
	b.memory(74*mib, 0)
	b.step(100*time.Millisecond, 1, 0, 0)
	if g := b.t.Window.Growth; g != 0 {
		t.Errorf("growth %.0f after a tenth of a second", g)
	}
}

// The peak of anonymous memory is remembered for 30 minutes, that of the working
// set for its minute.
func TestPeaks(t *testing.T) {
	b := newBox()
	b.memory(500*mib, 0)
	b.read(memTier)
	b.memory(100*mib, 0)
	closed, peaks := 0, []knowledge.Bytes{}
	w := &b.t.Window
	for i := range 45 * 6 {
		_, m := b.step(10*time.Second, 1, 0, memTier)
		if m.Closed {
			closed++
			peaks = append(peaks, m.Peak)
		}
		switch at := time.Duration(i+1) * 10 * time.Second; {
		case at <= 29*time.Minute && w.AnonPeak != 500*mib:
			t.Fatalf("at %s the peak is %s", at, w.AnonPeak)
		case at > 31*time.Minute && w.AnonPeak != 100*mib:
			t.Fatalf("at %s the peak is still %s", at, w.AnonPeak)
		}
	}
	if closed != 45 || peaks[0] != 500*mib || peaks[1] != 100*mib {
		t.Errorf("%d minutes, peaks %v", closed, peaks[:2])
	}
}

// Events are what is new; the first reading is a baseline, also when it comes
// with the very first sample, and so is one that went down.
func TestMemoryEvents(t *testing.T) {
	b := newBox()
	b.s.OOMKills, b.s.MaxEvents, b.s.HighEvents = 7, 100, 3
	b.read(memTier)
	w := &b.t.Window
	if w.OOMKills != 0 || w.MaxEvents != 0 || !w.LastOOM.IsZero() || !w.LastMemoryEvent.IsZero() {
		t.Fatalf("history counts as news: %+v", w)
	}
	b.s.OOMKills, b.s.MaxEvents = 8, 105
	b.step(time.Second, 1, 0, memTier)
	if w.OOMKills != 1 || w.MaxEvents != 5 || !w.LastOOM.Equal(b.at) || !w.LastMemoryEvent.Equal(b.at) {
		t.Errorf("one kill right after the start: %+v", w)
	}
	when := b.at
	b.step(time.Second, 1, 0, 0)
	if w.OOMKills != 0 || w.MaxEvents != 0 || !w.LastOOM.Equal(when) {
		t.Errorf("news twice: %+v", w)
	}
	b.s.OOMKills, b.s.MaxEvents, b.s.HighEvents = 0, 0, 0 // a new cgroup
	b.step(time.Second, 1, 0, memTier)
	if w.OOMKills != 0 || w.MaxEvents != 0 {
		t.Errorf("a new cgroup: %+v", w)
	}
	b.s.HighEvents = 2
	b.step(time.Second, 1, 0, memTier)
	if w.HighEvents != 2 {
		t.Errorf("high events %d", w.HighEvents)
	}
	if b.t.Kills() != 8 {
		t.Errorf("kills %d: a start loses none", b.t.Kills())
	}
	b.t.MarkOOM(b.at)
	if b.t.Kills() != 9 {
		t.Errorf("kills %d: one ended the container", b.t.Kills())
	}
}

func TestRefaultRate(t *testing.T) {
	b := newBox()
	b.s.Refaults = 1000
	b.step(10*time.Second, 1, 0, memTier)
	w := &b.t.Window
	if w.RefaultRate != 0 {
		t.Errorf("rate %v from one reading", w.RefaultRate)
	}
	b.s.Refaults = 6000
	b.step(10*time.Second, 1, 0, memTier)
	if w.RefaultRate != 500 {
		t.Errorf("rate %v, want 500", w.RefaultRate)
	}
	b.s.Refaults += 200
	b.step(100*time.Millisecond, 1, 0, memTier)
	if w.RefaultRate != 500 {
		t.Errorf("rate %v over a tenth of a second", w.RefaultRate)
	}
	b.s.Refaults = 0
	b.step(10*time.Second, 1, 0, memTier)
	if w.RefaultRate != 0 {
		t.Errorf("rate %v of a counter that fell", w.RefaultRate)
	}
}

func TestMarkOOM(t *testing.T) {
	var tr Track
	tr.MarkOOM(start)
	if !tr.Window.LastOOM.Equal(start) {
		t.Error("the Engine's word is lost")
	}
}

// Cache that takes the place of cache, that grows between two readings of the detail, or that is
// read twice and so counts as active, is no growth of what is needed; dirty pages are.
func TestGrowthIsOfWhatCannotBeReclaimed(t *testing.T) {
	b := newBox()
	w := &b.t.Window
	b.memory(100*mib, 50*mib)
	b.read(memTier | knowledge.HasMemory)
	for i := range 40 { // 5 MiB/s of anonymous memory below 50 MiB/s of active cache
		b.s.Anon += 5 * mib / 4
		b.s.File += 50 * mib / 4
		b.s.Reclaimable, b.s.CleanFile = b.s.File, b.s.File
		b.s.MemoryUsage = b.s.Anon + b.s.File
		tier := knowledge.Signals(0)
		if i%8 == 7 { // the detail comes every two seconds
			tier = memTier
		}
		b.step(250*time.Millisecond, 1, 0, tier)
		if i%8 != 7 {
			if w.Hard < b.s.Anon {
				t.Fatalf("between two details %s of %s is no upper bound", w.Hard, b.s.Anon)
			}
			continue
		}
		if rate := 5 * float64(mib); w.Hard != b.s.Anon || i > 8 && (w.Growth < 0.99*rate || w.Growth > 1.3*rate) {
			t.Errorf("reading %d: %s of %s, growth %.1f MiB/s of 5", i, w.Hard, b.s.Anon, w.Growth/float64(mib))
		}
	}
	b.s.Reclaimable, b.s.Dirty = b.s.Reclaimable-30*mib, 30*mib
	b.step(250*time.Millisecond, 1, 0, memTier)
	if w.Hard != b.s.Anon+30*mib || w.Cache != b.s.CleanFile {
		t.Errorf("with 30 MiB that are dirty: %s of %s, cache %s", w.Hard, b.s.Anon+30*mib, w.Cache)
	}
	b.s.MemoryLimit = b.s.MemoryUsage
	b.s.Reclaimable, b.s.Dirty = b.s.Reclaimable-370*mib, 400*mib // a writer without pause
	b.step(250*time.Millisecond, 1, 0, memTier|knowledge.HasLimits)
	if w.Hard != b.s.Anon+b.s.MemoryLimit/5 {
		t.Errorf("with 400 MiB that are dirty: %s of %s", w.Hard, b.s.Anon)
	}
}

// A cut takes page cache: a use from before it is not held against a detail from after it, and
// the working set is at most the limit in force.
func TestRow113ReadingAcrossACut(t *testing.T) {
	b := newBox()
	w := &b.t.Window
	b.memory(80*mib, 1300*mib)
	b.read(memTier | knowledge.HasMemory)
	b.s.MemoryLimit = 256 * mib
	b.s.Reclaimable, b.s.CleanFile, b.s.InactiveFile = 170*mib, 170*mib, 170*mib
	b.s.File = 170 * mib
	for _, have := range []knowledge.Signals{memTier, memTier | knowledge.HasMemory} { // without, and with, the old use
		b.step(100*time.Millisecond, 1, 0, 0)
		b.s.Have = have | knowledge.HasLimits
		b.t.Observe(&b.s, cpus)
		if w.WorkingSet > 256*mib || w.Hard > 80*mib || w.Growth > 0 {
			t.Fatalf("a working set of %s, %s that cannot be reclaimed, growth %.0f", w.WorkingSet, w.Hard, w.Growth)
		}
	}
}
