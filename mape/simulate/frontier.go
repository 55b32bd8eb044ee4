package simulate

import (
	"cmp"
	"slices"
)

// The factors by which a policy's allocation is scaled.
const (
	LeastScale, MostScale = 0.5, 8.0
)

// Point is one place on a frontier: the whole allocation series times Scale
// leaves Shortage of demand unserved and wastes Slack.
type Point struct {
	Scale float64 `json:"scale"`
	// Shortage is unserved demand over demand, Slack is what was allocated and not
	// used over demand; both sums over time.
	Shortage float64 `json:"shortage"`
	Slack    float64 `json:"slack"`
	// Reached is false when no factor between LeastScale and MostScale gives the requested
	// shortage; the point is then the nearest one.
	Reached bool `json:"reached"`
}

// Frontier is the cost of a policy's allocation at every level of service. For a
// policy that allocates a(t) against demand d(t), scaled by k:
//
// shortage(k) = Σ max(d − k·a, 0)·Δt / Σ d·Δt
// slack(k) = Σ max(k·a − d, 0)·Δt / Σ d·Δt = k·Σa/Σd − 1 + shortage(k)
//
// Shortage is piecewise linear in k, with a corner where k·a meets a step's demand,
// so that the k of a shortage is solved exactly.
type Frontier struct {
	ratio          []float64 // d/a, falling: where the steps' corners lie
	demand, alloc  []float64 // sums over the steps up to and with that corner
	demands, total float64   // Σd, Σa
}

// NewFrontier makes the frontier of a replay; the first step is left out.
func NewFrontier(s *Series) *Frontier { return frontier(s.Demand[1:], s.Allocated[1:], nil) }

// frontier: weights are the lengths of the steps; nil: equal ones.
func frontier(demand, alloc, weights []float64) *Frontier {
	type step struct{ ratio, d, a float64 }
	f := &Frontier{}
	steps := make([]step, 0, len(demand))
	for i, d := range demand {
		a, w := alloc[i], 1.0
		if weights != nil {
			w = weights[i]
		}
		f.demands += d * w
		f.total += a * w
		if d > LeastScale*a {
			steps = append(steps, step{d / max(a, 1e-300), d * w, a * w})
		}
	}
	slices.SortFunc(steps, func(x, y step) int { return cmp.Compare(y.ratio, x.ratio) })
	f.ratio, f.demand, f.alloc = make([]float64, len(steps)), make([]float64, len(steps)), make([]float64, len(steps))
	var d, a float64
	for i, s := range steps {
		d, a = d+s.d, a+s.a
		f.ratio[i], f.demand[i], f.alloc[i] = s.ratio, d, a
	}
	return f
}

// At is the place on the frontier at a factor from LeastScale up.
func (f *Frontier) At(k float64) Point {
	p := Point{Scale: k, Reached: true}
	if f.demands <= 0 {
		return p
	}
	// The steps before n are short at k.
	n, _ := slices.BinarySearchFunc(f.ratio, k, func(r, k float64) int {
		if r > k {
			return -1
		}
		return 1
	})
	if n > 0 {
		p.Shortage = max(f.demand[n-1]-k*f.alloc[n-1], 0) / f.demands
	}
	p.Slack = max(k*f.total/f.demands-1+p.Shortage, 0)
	return p
}

// Solve is the place at which a share of demand stays unserved.
func (f *Frontier) Solve(shortage float64) Point {
	if p := f.At(LeastScale); p.Shortage <= shortage {
		p.Reached = p.Shortage > shortage-tolerance
		return p
	}
	if p := f.At(MostScale); p.Shortage > shortage {
		p.Reached = false
		return p
	}
	// The first corner at which at least that much is short: the factor lies
	// between it and the one before.
	n, _ := slices.BinarySearchFunc(f.ratio, shortage, func(r, want float64) int {
		if f.At(max(r, LeastScale)).Shortage < want {
			return -1
		}
		return 1
	})
	n = max(n-1, 0)
	k := (f.demand[n] - shortage*f.demands) / f.alloc[n]
	return f.At(min(max(k, LeastScale), MostScale))
}

// Curve is the frontier for a picture: n factors, each the same multiple of the
// one before.
func (f *Frontier) Curve(n int) []Point {
	out := make([]Point, 0, n)
	for i := range n {
		out = append(out, f.At(geometric(LeastScale, MostScale, float64(i)/float64(max(n-1, 1)))))
	}
	return out
}
