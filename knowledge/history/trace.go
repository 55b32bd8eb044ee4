package history

import (
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Trace is the total demand of the containers of one service, in even steps. A step
// without a record has the values of the one before it.
type Trace struct {
	Start time.Time // of the first step
	Step  time.Duration
	// Demand and Peak are cores: the mean of the step, and its highest second, which
	// is that of the busiest container above the mean of the others. A step that was
	// throttled holds what would have been used, estimated from below.
	Demand, Peak []float64
	// Memory is working set in bytes: the highest of the step, as if all containers
	// had that of the largest.
	Memory []float64
	// Filled steps lie in Gaps stretches; Throttled steps were.
	Filled, Gaps, Throttled int
}

// Even lays out buckets of one tier, oldest first, in steps of that tier.
func Even(buckets []Bucket, tier Tier) Trace {
	t := Trace{Step: tier.Step()}
	if len(buckets) == 0 {
		return t
	}
	t.Start = buckets[0].At
	for i := range buckets {
		b := &buckets[i]
		at := int(b.At.Sub(t.Start) / t.Step)
		if at < len(t.Demand) {
			continue // the clock was set back
		}
		t.fill(at)
		n := float64(max(b.Containers, 1))
		t.Demand = append(t.Demand, b.MeanDemand*n)
		t.Peak = append(t.Peak, b.MeanDemand*(n-1)+b.MaxDemand)
		t.Memory = append(t.Memory, float64(b.WorkingSet)*n)
		if b.Throttled > 0 {
			t.Throttled++
		}
	}
	return t
}

// fill repeats the last step until there are n.
func (t *Trace) fill(n int) {
	last := len(t.Demand) - 1
	if missing := n - len(t.Demand); missing > 0 {
		t.Gaps++
		t.Filled += missing
		t.Demand = append(t.Demand, slices.Repeat(t.Demand[last:], missing)...)
		t.Peak = append(t.Peak, slices.Repeat(t.Peak[last:], missing)...)
		t.Memory = append(t.Memory, slices.Repeat(t.Memory[last:], missing)...)
	}
}

// reach is the longest time before a point that it represents: an idle container is
// read each ten seconds.
const reach = 11 * time.Second

// Seconds lays out the points of several containers, each oldest first, in steps of a
// second, from the first to the last on record. A point represents the time before
// it, the first one a second.
func Seconds(containers [][]knowledge.Point, from, to time.Time) Trace {
	t := Trace{Start: from, Step: time.Second}
	next, missing := make([]int, len(containers)), 0
	for at := from.Add(t.Step); !at.After(to); at = at.Add(t.Step) {
		var demand, memory float64
		seen, throttled := false, false
		for i, points := range containers {
			for next[i] < len(points) && points[next[i]].At < at.UnixNano() {
				next[i]++
			}
			far := reach
			if next[i] == 0 { // nothing was known before the first one
				far = t.Step
			}
			if next[i] == len(points) || points[next[i]].At > at.Add(far).UnixNano() {
				continue
			}
			p := points[next[i]]
			demand += float64(max(p.Demand, p.CPU))
			memory += float64(p.WorkingSet)
			seen, throttled = true, throttled || p.Throttled > 0
		}
		switch {
		case seen:
			t.fill(len(t.Demand) + missing)
			missing = 0
			t.Demand, t.Memory = append(t.Demand, demand), append(t.Memory, memory)
			t.Peak = append(t.Peak, demand)
		case len(t.Demand) == 0:
			t.Start = at
		default:
			missing++
		}
		if throttled {
			t.Throttled++
		}
	}
	return t
}
