package plan

import (
	"math"

	"github.com/effiscale/effiscale/knowledge"
)

// Share is one container's part in the host's CPU pool.
type Share struct {
	// Min is its floor, Want the quota that its reflex would set.
	Min, Want knowledge.NanoCPU
	// Grant is the answer: between min(Min, Want) and Want.
	Grant knowledge.NanoCPU
	// Weight is the priority when the pool is short, 1..100.
	Weight int
}

// Pool divides a host's CPU: it fills Grant in place and allocates nothing.
//
// A full host is shared by weight, as the kernel's scheduler does it: whoever wants less
// than its share gets all of it, and the others divide the rest.
//
// grant = min(want, max(base, λ · weight)), λ such that it adds up,
//
// where base = min(Min, want). Half of the capacity can always be granted beyond the
// floors, which must not starve the others. So Σ Grant ≤ max(C, Σ base + C/2), and
// Σ Grant ≤ C while floors take half of the host or less.
func Pool(capacity knowledge.NanoCPU, shares []Share) {
	capacity = min(max(capacity, 0), knowledge.MaxCPU)
	var base, want knowledge.NanoCPU
	high := 0.0
	for i := range shares {
		s := &shares[i]
		base += s.base()
		want += s.want()
		high = max(high, float64(s.want())/s.weight())
	}
	low, most := 0.0, max(capacity, base+scale(capacity, poolSpare))
	if want <= most {
		low = math.Inf(1)
	}
	for range poolSteps {
		level, sum := (low+high)/2, knowledge.NanoCPU(0)
		if !(low < level && level < high) {
			break
		}
		for i := range shares {
			sum += shares[i].at(level)
		}
		if sum <= most {
			low = level
		} else {
			high = level
		}
	}
	for i := range shares {
		shares[i].Grant = shares[i].at(low)
	}
}

// poolSteps halve the range of λ to less than a billionth of a core.
const poolSteps = 64

// at is the grant for a λ.
func (s *Share) at(level float64) knowledge.NanoCPU {
	want := s.want()
	if by := level * s.weight(); by < float64(want) {
		return min(max(s.base(), knowledge.NanoCPU(by)), want)
	}
	return want
}

func (s *Share) want() knowledge.NanoCPU { return min(max(s.Want, 0), knowledge.MaxCPU) }

func (s *Share) base() knowledge.NanoCPU { return min(max(s.Min, 0), s.want()) }

func (s *Share) weight() float64 { return float64(min(max(s.Weight, weightMin), weightMost)) }
