package plan_test

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"pgregory.net/rapid"
)

// An image stands in for a history of the service's own, and gives way to it.
func TestFloorsFromAnImage(t *testing.T) {
	image := plan.Image{ObservedFor: 5 * time.Hour, CPU: core, CPUMax: 2 * core, MemoryNeed: 400 * knowledge.MiB,
		MemoryPeak: 500 * knowledge.MiB}
	short := image
	short.ObservedFor = 2 * time.Minute
	for _, c := range []struct {
		name        string
		facts       plan.Facts
		floor       knowledge.NanoCPU
		memFloor    knowledge.Bytes
		firstCPU    knowledge.NanoCPU
		firstMemory knowledge.Bytes
		rule        knowledge.Rule
	}{
		// 1 core · 1.15; 500 MiB · 1.3 = 650 MiB.
		{"at first sight", plan.Facts{Image: image}, core * 115 / 100, 400 * knowledge.MiB, core * 23 / 10,
			650 * knowledge.MiB, knowledge.RuleImage},
		// Half of 0.2 and half of 1.15; 500 MiB · (0.15 + 0.15/√2 + 1) = 628.03, up to 629 MiB.
		{"after ten minutes", plan.Facts{ObservedFor: 10 * time.Minute, CPU: core / 5, MemoryNeed: 100 * knowledge.MiB,
			Image: image},
			core * 675 / 1000, 250 * knowledge.MiB, core * 23 / 10, 629 * knowledge.MiB, knowledge.RuleImage},
		{"memory never less than was seen", plan.Facts{ObservedFor: 10 * time.Minute, CPU: core / 5,
			MemoryNeed: knowledge.GiB, Image: image},
			core * 675 / 1000, knowledge.GiB, core * 23 / 10, 629 * knowledge.MiB, knowledge.RuleImage},
		{"an hour of its own", plan.Facts{ObservedFor: time.Hour, CPU: core / 5, MemoryNeed: 100 * knowledge.MiB,
			Image: image},
			core / 5, 100 * knowledge.MiB, 0, 0, knowledge.RuleProfile},
		{"an image of two minutes gives first limits alone", plan.Facts{Image: short},
			core / 20, 32 * knowledge.MiB, core * 23 / 10, 650 * knowledge.MiB, knowledge.RuleNoProfile},
		{"an image of half a minute gives nothing",
			plan.Facts{Image: plan.Image{ObservedFor: 30 * time.Second, CPU: core, CPUMax: core}},
			core / 20, 32 * knowledge.MiB, 0, 0, knowledge.RuleNoProfile},
		{"an image that has done nothing", plan.Facts{Image: plan.Image{ObservedFor: time.Hour}},
			core / 20, 32 * knowledge.MiB, 0, 0, knowledge.RuleImage},
	} {
		p := serving(4)
		e := plan.Deliberate(epoch, c.facts, &p, knowledge.Host{CPUs: 4, Memory: 16 * knowledge.GiB}, knowledge.Envelope{})
		if e.CPU.Min != c.floor || e.MemoryFloor != c.memFloor || e.FirstCPU != c.firstCPU ||
			e.FirstMemory != c.firstMemory || e.Reason.Rule != c.rule {
			t.Errorf("%s: floors %s and %s, first %s and %s, %s", c.name, e.CPU.Min, e.MemoryFloor, e.FirstCPU, e.FirstMemory,
				e.Reason)
		}
	}
}

// A container without limits gets its first ones from its image after five seconds,
// also while it is starting, and never below what it was seen to use.
func TestFirstLimitsFromAnImage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, f, w, e, p := steadyWorld()
		w.Quota, w.MemoryLimit = 0, 0
		e.FirstCPU = knowledge.NanoCPU(rapid.Int64Range(1, int64(4*core)).Draw(t, "first cpu"))
		e.FirstMemory = knowledge.Bytes(rapid.Int64Range(1, int64(4*knowledge.GiB)).Draw(t, "first memory"))
		seen := time.Duration(rapid.Int64Range(int64(time.Second), int64(30*time.Second)).Draw(t, "seen"))
		w.Since, f.Starting, f.Age = now.Add(-seen), rapid.Bool().Draw(t, "starting"), seen
		var r plan.Reflex
		cpu, memory := r.CPU(now, &f, &w, &e, &p), r.Memory(now, &f, &w, &e, &p)
		if seen < 5*time.Second {
			if cpu.Verb != knowledge.Hold || memory.Verb != knowledge.Hold {
				t.Fatalf("after %s: %+v, %+v", seen, cpu, memory)
			}
			return
		}
		if least := max(e.FirstCPU, w.UsageMax*13/10, e.CPU.Min); knowledge.NanoCPU(cpu.To) < least ||
			cpu.Reason.Rule != knowledge.RuleFirstImage {
			t.Fatalf("%s, want %s at least: %s", knowledge.NanoCPU(cpu.To), least, cpu.Reason)
		}
		if least := max(e.FirstMemory, w.WorkingSet+64*knowledge.MiB); knowledge.Bytes(memory.To) < least ||
			memory.Reason.Rule != knowledge.RuleFirstImage || memory.Reason.Args[1] != float64(memory.To) {
			t.Fatalf("%s, want %s at least: %s", knowledge.Bytes(memory.To), least, memory.Reason)
		}
	})
}
