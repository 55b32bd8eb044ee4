package mape

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 118: a database gets no first limit below the buffers that it has mapped and not used yet;
// what runs is recognised once in each life, also below a shell.
func TestRow118BuffersThatAreNotUsedYet(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("db", knowledge.Limits{}, nil)
	b.demand, b.anon, b.processes, b.mapped.Shared = 0.1, 16*mib, []string{"sh", "postgres"}, 144*mib
	h.pass(90 * time.Second)
	if b.kernel.Memory < 160*mib || b.kernel.Memory > 260*mib {
		t.Errorf("a first limit of %s, with 144 MiB that are mapped", b.kernel.Memory)
	}
	if r := h.container(b).reading.life.runtime; r.Name != "PostgreSQL" {
		t.Errorf("recognised %+v", r)
	}
	if d := h.container(b).planned[knowledge.ResourceMemory].Decision; !strings.Contains(d.Reason.String(), "mapped") {
		t.Errorf("the reason: %s", d.Reason)
	}
	b.processes = []string{"java"}
	h.pass(5 * time.Minute)
	if l := h.container(b).reading.life; l.runtime.Name != "PostgreSQL" || l.looks != 2 {
		t.Errorf("read again in the same life: %+v", l)
	}
}

// Row 117 in the loop: a raise for page cache that a JVM's heap does not follow is reverted, and
// the history says why.
func TestRow117ARuntimeThatDoesNotGrow(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("jvm", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
	b.demand, b.anon, b.processes = 0.3, 200*mib, []string{"java"}
	h.pass(20 * time.Second)
	for range 40 { // its files are read again and again for a while
		b.cache += 400 * mib
		b.s.Refaults += 4000
		h.pass(time.Second)
	}
	if b.kernel.Memory <= 512*mib {
		t.Fatalf("the cache is missed, and the limit is %s", b.kernel.Memory)
	}
	h.pass(4 * time.Minute)
	if b.kernel.Memory > 520*mib { // in steps of 30 % at most
		t.Errorf("unused for four minutes, and the limit is %s", b.kernel.Memory)
	}
	said := false
	for _, a := range h.begun {
		said = said || a.Reason.Rule == knowledge.RuleUnused && strings.Contains(a.Reason.String(), "OpenJDK keeps the heap")
	}
	if !said {
		t.Errorf("the reason is not in the history: %+v", h.begun)
	}
}

// Row 113 in the loop: a first limit takes most of the page cache, and what was in use before it is
// no reason to raise it again.
func TestRow113FirstLimitIsNotRaised(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("idle-db", knowledge.Limits{}, nil)
	b.demand, b.anon, b.cache = 0.02, 80*mib, 1300*mib
	h.pass(70 * time.Second)
	first := b.kernel.Memory
	if first == 0 || first > 200*mib {
		t.Fatalf("the first limit of 80 MiB and 1.3 GiB of page cache is %s", first)
	}
	for range 120 {
		h.pass(time.Second)
		if b.kernel.Memory > first {
			t.Fatalf("raised from %s to %s: %s", first, b.kernel.Memory, h.begun[len(h.begun)-1].Reason)
		}
	}
}

// Row 113: memory's detail is never read without the use of the same instant, whatever a container
// does: of two instants, with a cut between them, page cache would count as need.
func TestRow113DetailWithItsUse(t *testing.T) {
	h := newHost(t, options{})
	var boxes []*box
	for i := range 20 {
		b := h.run(fmt.Sprint("web", i), knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
		b.demand, b.anon, b.cache = 0.0005*float64(i), 30*mib, knowledge.Bytes(i)*20*mib
		boxes = append(boxes, b)
	}
	h.pass(10 * time.Minute)
	for _, b := range boxes {
		if b.detailReads < 5 || b.detached > 0 {
			t.Errorf("%s: detail was read %d times, %d times without the use", b.c.Name, b.detailReads, b.detached)
		}
	}
}

// Row 115 in the loop: new use may be page cache or need. Before memory is granted for it, its detail
// is read in the same pass: page cache raises no limit, need does at once.
func TestRow115NewUseIsReadInDetail(t *testing.T) {
	for _, cached := range []bool{true, false} {
		h := newHost(t, options{})
		b := h.run("web", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
		b.demand, b.anon = 0.3, 100*mib
		h.pass(25 * time.Second)
		if cached {
			b.cache = 372 * mib // 92 % of the limit
		} else {
			b.anon += 372 * mib
		}
		h.pass(time.Second)
		if grew := b.kernel.Memory > 512*mib; grew == cached {
			t.Errorf("page cache: %v; a limit of %s", cached, b.kernel.Memory)
		}
	}
}

// Row 118: a JVM that was idle until its first limit keeps room for the heap that it made writable
// at its start, and stays without a limit where the policy has less until it starts again.
func TestRow118HeapThatIsNotUsedYet(t *testing.T) {
	h := newHost(t, options{})
	free := h.run("jvm", knowledge.Limits{}, nil)
	bounded := h.run("bounded", knowledge.Limits{}, nil)
	other := h.run("other", knowledge.Limits{}, nil)
	for _, b := range []*box{free, bounded, other} {
		b.demand, b.anon, b.mapped.Heap = 0.001, 18*mib, 384*mib
	}
	bounded.mapped.Planned, free.mapped.Planned = 6*gib, 6*gib
	h.pass(time.Second)
	h.container(bounded).Policy.Memory.Max = 400 * mib
	free.processes, bounded.processes, other.processes = []string{"java"}, []string{"java"}, []string{"sleep"}
	h.pass(90 * time.Second)
	if m := free.kernel.Memory; m < 384*mib || m > 512*mib {
		t.Errorf("a limit of %s, with 384 MiB of heap", m)
	}
	if m := other.kernel.Memory; m == 0 || m > 100*mib {
		t.Errorf("no runtime, and a limit of %s", m)
	}
	d := h.container(bounded).planned[knowledge.ResourceMemory].Decision
	if bounded.kernel.Memory != 0 || d.Reason.Rule != knowledge.RuleHeapPlanned {
		t.Errorf("a heap above the policy's bound: %s, %s", bounded.kernel.Memory, d.Reason)
	}
}

// Row 118: a container that was idle for long and then fills memory at 100 MB/s is never at its
// limit, whatever the phase of its readings.
func TestRow118LoadAfterAnIdleTime(t *testing.T) {
	for phase := range 10 {
		h := newHost(t, options{settings: func(s *Settings) { s.Cadence.Budget = 0.01 }})
		b := h.run("worker", knowledge.Limits{}, nil)
		b.demand, b.anon = 0, 3*mib
		h.pass(90*time.Second + time.Duration(phase)*tickEvery)
		first := b.kernel.Memory
		if first == 0 || first > 100*mib {
			t.Fatalf("a first limit of %s", first)
		}
		b.demand = 0.5
		for b.anon < 400*mib {
			b.anon += 10 * mib
			if b.anon >= b.kernel.Memory {
				t.Fatalf("phase %d: %s in use, first limit %s, now %s", phase, b.anon, first, b.kernel.Memory)
			}
			h.pass(tickEvery)
		}
	}
}

// Row 114: a container that fills its memory at 100 MB/s from its start on is raised far enough before
// its growth is measured, also where a tick comes 200 ms late.
func TestRow114GrowthFromTheStart(t *testing.T) {
	for late := range 8 {
		h := newHost(t, options{})
		h.pass(5 * time.Second)
		b := h.run("filler", knowledge.Limits{CPU: core, Memory: 64 * mib, MemorySwap: 64 * mib}, nil)
		b.c.StartedAt, b.demand, b.anon = h.now, 0.5, 4*mib
		h.emit(knowledge.EventCreate, b)
		h.emit(knowledge.EventStart, b)
		for i := 0; b.anon < 400*mib; i++ {
			b.anon += 10 * mib
			if b.anon >= b.kernel.Memory {
				t.Fatalf("late at %d: %s in use after %d ticks", late, b.anon, i)
			}
			if i == late || i == late+1 {
				h.now = h.now.Add(tickEvery)
				continue
			}
			h.tick()
		}
	}
}
