package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// The reaction is what was measured of late: late ticks and raises that took long; a reduction,
// which may wait on purpose, is none.
func TestReaction(t *testing.T) {
	var r reaction
	var c execute.Container
	take := func(at time.Duration) time.Duration { return r.take(begin.Add(at), &c) }
	changed := func(at time.Duration, verb knowledge.Verb, took time.Duration) {
		c.LastChange = knowledge.Record{
			Action:  knowledge.Action{Resize: knowledge.Resize{Resource: knowledge.ResourceMemory, Verb: verb}},
			Outcome: knowledge.Outcome{At: begin.Add(at), Took: took},
		}
	}
	if got := take(0); got != tickEvery {
		t.Errorf("nothing was slow: %s", got)
	}
	r.ticked(begin.Add(time.Second), 300*time.Millisecond)
	r.ticked(begin.Add(2*time.Second), -time.Second)
	changed(time.Second, knowledge.Shrink, 5*time.Second)
	if got := take(2 * time.Second); got != tickEvery+300*time.Millisecond {
		t.Errorf("a late tick: %s", got)
	}
	changed(3*time.Second, knowledge.Grow, 200*time.Millisecond)
	if got := take(4 * time.Second); got != tickEvery+500*time.Millisecond {
		t.Errorf("and a slow update: %s", got)
	}
	for at := 5 * time.Second; at < 4*time.Minute; at += time.Second {
		r.ticked(begin.Add(at), 0)
		got := take(at)
		if at < time.Minute && got < tickEvery+500*time.Millisecond || at > 3*time.Minute && got != tickEvery {
			t.Fatalf("after %s: %s", at, got)
		}
	}
}

// A late tick decides on memory: the container that grows is read in it.
func TestRow114LateTicksInTheLoop(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("ramp", knowledge.Limits{CPU: core, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	b.demand, b.anon = 0.5, 64*mib
	h.pass(10 * time.Second)
	highest := knowledge.Bytes(0)
	for i := 0; b.anon < 450*mib; i++ { // 40 MiB/s
		step := 100 * time.Millisecond
		if i%10 == 5 {
			step = 600 * time.Millisecond
		}
		b.anon = min(b.anon+knowledge.Bytes(40*step.Seconds())*mib, 450*mib)
		h.now = h.now.Add(step - tickEvery)
		h.tick()
		highest = max(highest, b.kernel.Memory)
	}
	h.pass(5 * time.Second)
	if b.s.OOMKills > 0 || max(highest, b.kernel.Memory) > 450*mib*135/100 {
		t.Errorf("%d kills, the limit went to %s", b.s.OOMKills, max(highest, b.kernel.Memory))
	}
}
