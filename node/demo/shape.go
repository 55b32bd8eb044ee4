package demo

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// workPerRequest is the CPU time that one request takes.
const workPerRequest = 10 * time.Millisecond

// scenario is what one demonstration does: the same in both runs, fitted to the host.
type scenario struct {
	shape string
	each  time.Duration // length of one run
	base  float64       // cores asked for when calm
	peak  float64       // cores asked for at the height
	// limits are what both runs start with, and what the first one keeps.
	limits knowledge.Limits
	// The maxima are those of the labels of the second run.
	maxCPU float64
	maxMem knowledge.Bytes
	cores  int
}

const (
	minMem = 64 * knowledge.MiB
	// leaked is what the shape "leak" adds to the service's own 15 MiB in a run: it
	// fills the first limit of 96 MiB twice.
	leaked = 256 * knowledge.MiB
)

// planFor fits a shape to a host: the peak takes at most half of its cores and 70 % of those
// that are idle, which leaves some to the load generator and to others; at most 2, and 0.4 on
// the smallest or busiest host.
func planFor(shape string, total time.Duration, cores int, free float64) scenario {
	peak := max(min(0.5*float64(cores), 0.7*free, 2), 0.4)
	p := scenario{shape: shape, each: total * 9 / 20, base: peak / 10, peak: peak, cores: cores,
		maxCPU: min(math.Ceil(peak*20)/10, float64(cores)), maxMem: 512 * knowledge.MiB}
	p.limits = knowledge.Limits{CPU: knowledge.FromCores(math.Round(peak*4) / 10),
		Memory: 96 * knowledge.MiB, MemorySwap: 96 * knowledge.MiB}
	if shape == "leak" {
		p.peak = p.base // only memory moves
	}
	return p
}

// demand is the load in cores at x, 0..1 of a run.
func (p *scenario) demand(x float64) float64 {
	height := 0.0
	switch p.shape {
	case "step":
		if x >= 0.15 && x < 0.6 {
			height = 1
		}
	case "diurnal":
		height = (1 - math.Cos(2*math.Pi*x)) / 2
	case "flash":
		if x >= 0.4 && x < 0.6 {
			height = 1
		}
	}
	return p.base + (p.peak-p.base)*height
}

// held is the memory that the service is to hold when it has run for so long: a leak begins
// again with the process.
func (p *scenario) held(age time.Duration) knowledge.Bytes {
	if p.shape != "leak" {
		return 0
	}
	return knowledge.Bytes(float64(leaked) * min(max(age.Seconds()/p.each.Seconds(), 0), 1))
}
