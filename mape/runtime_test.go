package mape

import (
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
	b.demand, b.anon, b.processes, b.shared = 0.1, 16*mib, []string{"sh", "postgres"}, 144*mib
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
