package analyse

import "math"

// move is the best account of a series as a change of its level: from one level
// to another in a straight line, or up and down again at once.
type move struct {
	from, to  float64
	width     float64 // of the change, as a part of the series
	ago       float64 // since the change ended, as a part of the series
	explained float64 // share of the variation, 0..1
}

// change is the height of the move in parts of the middle between its levels.
func (m move) change() float64 {
	middle := (math.Abs(m.from) + math.Abs(m.to)) / 2
	if middle < IdleCPU.Cores() {
		return 0
	}
	return math.Abs(m.to-m.from) / middle
}

// sums holds running sums of y and of i·y, to have any stretch's in one step.
type sums struct {
	y, iy, yy [maxBlocks + 1]float64
}

func (s *sums) mean(from, to int) float64 { return (s.y[to] - s.y[from]) / float64(to-from) }

// fitMove tries every begin and end. One family has both steps and ramps: level,
// straight line, level; the width of the line tells them apart. A second family is a
// plateau: up and down at once, both steps. The plateau has one parameter more and
// must pay for it (BIC).
func fitMove(y []float64) move {
	n := len(y)
	var s sums
	for i, v := range y {
		s.y[i+1], s.iy[i+1], s.yy[i+1] = s.y[i]+v, s.iy[i]+float64(i)*v, s.yy[i]+v*v
	}
	total := s.yy[n] - s.y[n]*s.y[n]/float64(n)
	if total <= 1e-12*s.yy[n] {
		return move{from: s.mean(0, n), to: s.mean(0, n), width: 1}
	}
	line, lineSSE := fitLine(&s, n, total)
	flat, flatSSE := fitPlateau(&s, n, total)
	rest := 1e-4 * total
	if float64(n)*math.Log((flatSSE+rest)/(lineSSE+rest))+math.Log(float64(n)) < 0 {
		line, lineSSE = flat, flatSSE
	}
	line.explained = 1 - lineSSE/total
	return line
}

// fitLine fits level, line, level: y = c + d·r, with r 0 up to block a, 1 from
// block e on, and a straight line between.
func fitLine(s *sums, n int, total float64) (best move, sse float64) {
	sse = total
	mean := s.mean(0, n)
	least := n / shortest
	for a := -1; a < n-1; a++ {
		for e := a + 1; e <= n; e++ {
			if e-a == 1 && (e < least || n-e < least) {
				continue // a step must have lasted, and must have had something before it
			}
			w := float64(e - a)
			k := float64(e - a - 1) // blocks inside the line
			tail := float64(n - e)
			r := k/2 + tail
			rr := k*(k+1)*(2*k+1)/(6*w*w) + tail
			ry := (s.iy[e]-s.iy[a+1]-float64(a)*(s.y[e]-s.y[a+1]))/w + s.y[n] - s.y[e]
			den := rr - r*r/float64(n)
			if den <= 1e-9 {
				continue
			}
			d := (ry - r*mean) / den
			if got := total - d*d*den; got < sse {
				c := mean - d*r/float64(n)
				sse = got
				best = move{from: c, to: c + d, width: (w - 1) / float64(n), ago: tail / float64(n)}
			}
		}
	}
	return best, max(sse, 0)
}

// fitPlateau fits one level outside the blocks a to e and another one inside.
func fitPlateau(s *sums, n int, total float64) (best move, sse float64) {
	sse = total
	mean := s.mean(0, n)
	least := n / shortest
	for a := least; a <= n-2*least; a++ {
		for e := a + least; e <= n-least; e++ {
			k := float64(e - a)
			in := s.mean(a, e)
			out := (s.y[n] - k*in) / (float64(n) - k)
			got := total - k*(in-mean)*(in-mean) - (float64(n)-k)*(out-mean)*(out-mean)
			if got < sse {
				sse = got
				best = move{from: in, to: out, ago: float64(n-e) / float64(n)}
			}
		}
	}
	return best, max(sse, 0)
}
