package plan

import "math"

// Law is how useful capacity grows with the cores of one replica: Gunther's
// universal scalability law (Guerrilla Capacity Planning, 2007, chapter 4). The
// zero value is linear.
type Law struct {
	// Serial is s, the share of work that waits for a lock; Crosstalk is k, what
	// each pair of cores costs each other. Both 0 or more.
	Serial, Crosstalk float64
	// Parallel is c_par: the most cores one replica ever used while work was waiting and
	// its quota was not used up. 0: not known. A single-threaded process has 1, and gains
	// nothing from a second core.
	Parallel float64
}

// Useful is g(c), in cores of a replica that has one: 4 cores with s = 0.1 and
// k = 0.01 are worth 4/(1 + 0.3 + 0.12) = 2.82. It never falls with c: a replica
// that is past its best leaves cores idle. Under one core it is c itself.
func (l Law) Useful(c float64) float64 {
	if !(c > 0) || math.IsInf(c, 0) {
		return 0
	}
	if l.Parallel > 0 {
		c = min(c, l.Parallel)
	}
	if c <= 1 {
		return c
	}
	s, k := max(l.Serial, 0), max(l.Crosstalk, 0)
	if k > 0 { // the top of the curve: dg/dc = 0 at √((1−s)/k)
		c = min(c, max(math.Sqrt(max(1-s, 0)/k), 1))
	}
	return c / (1 + s*(c-1) + k*c*(c-1))
}
