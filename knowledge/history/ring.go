package history

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	ringStart = 16
	// RingPoints is the usual bound of a Ring: five minutes at one point a second.
	RingPoints = 300
	// ringTop is how many of the highest points a quantile examines, pointMost the longest
	// time that a point represents.
	ringTop   = 8
	pointMost = 10 * time.Second
)

// Ring keeps the newest points of one container: those of its bound in seconds, and
// at most as many points. It starts small and doubles while its oldest point is
// younger than the bound; else it drops the oldest. So a container that is read
// seldom has a small ring.
type Ring struct {
	points []knowledge.Point
	next   int // the oldest, and where the next point goes once the ring is full
	max    int
}

// NewRing makes an empty ring of at most limit points (at least one).
func NewRing(limit int) *Ring { return &Ring{max: max(limit, 1)} }

// Add appends a point. It allocates only while the ring still grows.
func (r *Ring) Add(p knowledge.Point) {
	n := len(r.points)
	if n == cap(r.points) && n < r.max && (n == 0 || p.At-r.points[r.next].At < r.span()) {
		grown := make([]knowledge.Point, 0, min(max(2*n, ringStart), r.max))
		r.points, r.next = append(append(grown, r.points[r.next:]...), r.points[:r.next]...), 0
	}
	if n < cap(r.points) {
		r.points = append(r.points, p)
		return
	}
	r.points[r.next] = p
	r.next = (r.next + 1) % n
}

// span is how old the oldest point must be to give way before the bound is met: the
// point that the first seconds of the span follow is kept too.
func (r *Ring) span() int64 { return int64(time.Duration(r.max)*time.Second + 2*pointMost) }

// Len is the number of points held.
func (r *Ring) Len() int { return len(r.points) }

// Last is the newest point; false when there is none.
func (r *Ring) Last() (knowledge.Point, bool) {
	if len(r.points) == 0 {
		return knowledge.Point{}, false
	}
	return r.points[(r.next+len(r.points)-1)%len(r.points)], true
}

// Since appends to dst the points at or after t in the order they were added.
func (r *Ring) Since(dst []knowledge.Point, t time.Time) []knowledge.Point {
	from := t.UnixNano()
	if t.IsZero() {
		from = 0
	}
	for i := range r.points {
		if p := r.points[(r.next+i)%len(r.points)]; p.At >= from {
			dst = append(dst, p)
		}
	}
	return dst
}

// Demand is the CPU demand in cores since t: the value that was exceeded for at most
// the share over of the time, and the mean. The first is exact where that share is no
// longer than eight points, else too high. It allocates nothing.
func (r *Ring) Demand(t time.Time, over float64) (high, mean float64) {
	var top [ringTop]struct{ demand, lasted float64 }
	total, sum, before := 0.0, 0.0, int64(0)
	for i := range r.points {
		p := &r.points[(r.next+i)%len(r.points)]
		lasted := float64(min(max(p.At-before, 0), int64(pointMost)))
		before = p.At
		if p.At < t.UnixNano() {
			continue
		}
		demand := float64(p.Demand)
		total, sum = total+lasted, sum+demand*lasted
		for j := range top { // insert, and carry on with what is pushed out
			if demand >= top[j].demand {
				top[j].demand, demand = demand, top[j].demand
				top[j].lasted, lasted = lasted, top[j].lasted
			}
		}
	}
	if total == 0 {
		return 0, 0
	}
	last, spent := 0, top[0].lasted
	for spent <= over*total && last < ringTop-1 {
		last++
		spent += top[last].lasted
	}
	return top[last].demand, sum / total
}
