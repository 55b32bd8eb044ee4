package e2e

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// stepRounds is how often the step is repeated; EFFISCALE_LONG=1 makes the percentiles
// worth reading.
func stepRounds() int {
	if long() {
		return 16
	}
	return 4
}

const (
	// The step, scaled to a host with two cores: from 0.3 under a quota that fits
	// it to 1.3, in two threads.
	stepFrom, stepTo, stepQuota = 0.3, 1.3, 0.45
	// stepAt is when the load leaps: the quota has been seen to fit by then.
	stepAt = 4 * time.Second
	// stepQuiet without a throttled period is enough, whatever the quota.
	stepQuiet = time.Second
)

// TestStep measures how long after the first throttled period of a step of load
// the kernel holds a sufficient quota. It runs alone: other load on the host is
// not what it measures.
//
// Goals: p50 150 ms, p95 300 ms, worst under 1 s. The bounds here are for any
// machine, also one that is busy with something else.
func TestStep(t *testing.T) {
	d := newDaemon(t)
	d.start()
	var took []time.Duration
	for i := 0; i < stepRounds()*3/2 && len(took) < stepRounds(); i++ {
		if one, ok := d.step(t, i); ok {
			took = append(took, one)
		}
	}
	n := len(took)
	if n < stepRounds()/2 {
		t.Fatalf("only %d of %d loads met their quota: the host is busy with something else", n, stepRounds()*3/2)
	}
	slices.Sort(took)
	at := func(p float64) time.Duration { return took[max(int(math.Ceil(p*float64(n)))-1, 0)] }
	p50, p95, worst := at(0.5), at(0.95), took[n-1]
	figure(
		t,
		"step of load %g to %g cores, %d rounds, sufficient quota after the first throttled period: p50 %d ms, p95 %d ms, worst %d ms (goals 150, 300, 1000)",
		stepFrom,
		stepTo,
		n,
		p50.Milliseconds(),
		p95.Milliseconds(),
		worst.Milliseconds(),
	)
	t.Logf("all rounds: %v", took)
	if p50 > 400*time.Millisecond || worst > 2*time.Second {
		t.Errorf("p50 %v (bound 400ms), worst %v (bound 2s): %v", p50, worst, took)
	}
	if took := d.stop(); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// step is one round: a fresh container whose load leaps. ok is false when the
// load was never throttled, because others on the host left it less than that.
func (d *daemon) step(t *testing.T, round int) (took time.Duration, ok bool) {
	t.Helper()
	b := d.box(t, fmt.Sprint("step", round), spec{
		do:   fmt.Sprintf("step --from %g --to %g --at %s --for 20s", stepFrom, stepTo, stepAt),
		cpus: stepQuota, memory: 64 * MiB, labels: map[string]string{"effiscale.cpu": "0.2..1.8"},
	})
	leap := time.Now().Add(stepAt)
	defer b.remove()
	d.sees(b)
	d.met(b)
	time.Sleep(time.Until(leap.Add(-300 * time.Millisecond)))
	// The kernel's own files, looked at 200 times a second.
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	var first, last time.Time
	count := b.kernel.Throttled()
	for now := time.Now(); now.Before(leap.Add(10 * time.Second)); now = <-poll.C {
		if n := b.kernel.Throttled(); n > count {
			count, last = n, now
			if first.IsZero() {
				first = now
			}
		}
		switch {
		case first.IsZero() && now.After(leap.Add(3*time.Second)):
			t.Logf("round %d: never throttled under %v cores", round, b.kernel.Quota())
			return 0, false
		case first.IsZero():
		case b.kernel.Quota() >= stepTo:
			return now.Sub(first), true
		case now.Sub(last) > stepQuiet && now.After(leap.Add(stepQuiet)):
			return last.Sub(first), true
		}
	}
	v, _ := d.view(b)
	t.Errorf("round %d: still throttled after %v under %v cores: %s", round, time.Since(first), b.kernel.Quota(), v.Why)
	return time.Since(first), true
}
