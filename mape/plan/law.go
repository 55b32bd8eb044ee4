package plan

import "math"

// Law is how useful capacity grows with the cores of one replica: Gunther's
// universal scalability law (Guerrilla Capacity Planning, 2007, chapter 4). The
// zero value is linear.
type Law struct {
	// Serial is s, the share of work that waits for a lock; Crosstalk is k, what
	// each pair of cores costs each other. Both 0 or more.
	Serial, Crosstalk float64
	// Parallel is c_par: the most cores one replica ever used while work was
	// waiting and its quota had room. 0: not known. A single-threaded process has
	// 1, and gains nothing from a second core.
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

const (
	// lawBuckets of cores, each a quarter wider than the one before: 1 to 168
	// cores. lawMemory readings make the mean of a bucket.
	lawBuckets = 24
	lawWidth   = 1.25
	lawMemory  = 100
	// lawDistinct sizes, lawEach readings of each, and a range of lawRange between
	// the smallest and the largest are the least that three unknowns are fitted to.
	lawDistinct = 3
	lawEach     = 5
	lawRange    = 2.0
	// lawRoom of the quota unused is "room to spare".
	lawRoom = 0.1
)

// Effort is what one replica did in one interval.
type Effort struct {
	// Quota and Usage in cores. Work is requests/s, else packets/s; 0: no signal.
	Quota, Usage, Work float64
	// Throttled: the quota held it back. Waiting: work was queued all the time, as
	// just after a throttled quota was raised.
	Throttled, Waiting bool
}

// LawFit learns the law of one image. It is of fixed size; the zero value has
// seen nothing.
type LawFit struct {
	cores, work [lawBuckets]float64
	count       [lawBuckets]int
	parallel    float64
}

// Observe takes one interval. Only a replica that is held back shows what its
// cores can do; one that waits with room to spare shows how many it can use.
func (f *LawFit) Observe(e Effort) {
	for _, v := range []float64{e.Quota, e.Usage, e.Work} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return
		}
	}
	if e.Waiting && !e.Throttled && e.Usage > 0 && e.Usage <= (1-lawRoom)*e.Quota {
		f.parallel = max(f.parallel, e.Usage)
	}
	if e.Throttled && e.Usage > f.parallel && f.parallel > 0 {
		f.parallel = e.Usage
	}
	if !e.Throttled || e.Work == 0 || e.Quota < 1 {
		return
	}
	b := min(int(math.Log(e.Quota)/math.Log(lawWidth)+1e-9), lawBuckets-1)
	f.count[b] = min(f.count[b]+1, lawMemory)
	n := float64(f.count[b])
	f.cores[b] += (e.Quota - f.cores[b]) / n
	f.work[b] += (e.Work - f.work[b]) / n
}

// Law is the best fit so far: linear as long as too little is known.
func (f *LawFit) Law() Law {
	l := Law{Parallel: f.parallel}
	var a equations
	distinct, least, most := 0, math.Inf(1), 0.0
	for b, n := range f.count {
		if n < lawEach {
			continue
		}
		distinct++
		c, x := f.cores[b], f.work[b]
		least, most = min(least, c), max(most, c)
		// c/X = (1 + s(c−1) + k·c(c−1))/λ, weighted by X/c: relative errors count.
		a.add([3]float64{x / c, (c - 1) * x / c, (c - 1) * x})
	}
	if distinct < lawDistinct || most < lawRange*least {
		return l
	}
	if p, ok := a.solve(); ok && p[0] > 0 {
		l.Serial, l.Crosstalk = min(p[1]/p[0], 1), p[2]/p[0]
	}
	return l
}

// equations are the normal equations of a least-squares fit of 1 = Σ p·row.
type equations struct {
	square [3][3]float64
	right  [3]float64
}

func (a *equations) add(row [3]float64) {
	for i := range row {
		a.right[i] += row[i]
		for j := range row {
			a.square[i][j] += row[i] * row[j]
		}
	}
}

// solve finds the least squares with p ≥ 0: the best of the four fits that leave
// out s, k, both or neither and stay at or above 0.
func (a *equations) solve() (best [3]float64, ok bool) {
	least := math.Inf(1)
	for _, use := range [][]int{{0}, {0, 1}, {0, 2}, {0, 1, 2}} {
		p, solved := a.of(use)
		if !solved || p[0] < 0 || p[1] < 0 || p[2] < 0 {
			continue
		}
		if e := a.excess(p); e < least-1e-12 {
			least, best, ok = e, p, true
		}
	}
	return best, ok
}

// excess is the sum of squares without its constant: pᵀAp − 2bᵀp.
func (a *equations) excess(p [3]float64) float64 {
	sum := 0.0
	for i := range p {
		sum -= 2 * a.right[i] * p[i]
		for j := range p {
			sum += p[i] * a.square[i][j] * p[j]
		}
	}
	return sum
}

// of solves for the unknowns in use by Gaussian elimination with pivots.
func (a *equations) of(use []int) (p [3]float64, ok bool) {
	var m [3][4]float64
	n := len(use)
	for i, r := range use {
		for j, c := range use {
			m[i][j] = a.square[r][c]
		}
		m[i][n] = a.right[r]
	}
	for i := range n {
		pivot := i
		for r := i; r < n; r++ {
			if math.Abs(m[r][i]) > math.Abs(m[pivot][i]) {
				pivot = r
			}
		}
		m[i], m[pivot] = m[pivot], m[i]
		if math.Abs(m[i][i]) < 1e-12*(1+a.square[0][0]) {
			return p, false
		}
		for r := range n {
			if r == i {
				continue
			}
			by := m[r][i] / m[i][i]
			for c := i; c <= n; c++ {
				m[r][c] -= by * m[i][c]
			}
		}
	}
	for i, r := range use {
		p[r] = m[i][n] / m[i][i]
	}
	return p, true
}
