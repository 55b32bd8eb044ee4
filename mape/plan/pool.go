package plan

import "github.com/effiscale/effiscale/knowledge"

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
// Each container gets base = min(Min, Want). The rest of the capacity is divided in
// proportion to the request beyond that and to the weight:
//
// grant = base + (want − base) · min(1, λ · weight), λ such that it adds up,
//
// which for equal weights is base + (want − base) · min(1, (C − Σbase)/Σ(want −
// base)). Half of the capacity can always be granted beyond the floors: floors of
// idle containers are unused, and must not starve the one that works. So Σ Grant ≤
// max(C, Σ base + C/2), and Σ Grant ≤ C while floors take half of the host or less.
func Pool(capacity knowledge.NanoCPU, shares []Share) {
	capacity = min(max(capacity, 0), knowledge.MaxCPU)
	var base, extra knowledge.NanoCPU
	for i := range shares {
		s := &shares[i]
		s.Grant = s.base()
		base += s.Grant
		extra += s.want() - s.Grant
	}
	spare := float64(max(capacity-base, scale(capacity, poolSpare)))
	if float64(extra) <= spare {
		for i := range shares {
			shares[i].Grant = shares[i].want()
		}
		return
	}
	perWeight := level(spare, shares)
	for i := range shares {
		s := &shares[i]
		more := float64(s.want()-s.Grant) * min(1, perWeight*s.weight())
		s.Grant += knowledge.NanoCPU(more)
	}
}

// level finds λ. Whoever's λ · weight reaches 1 is served in full and leaves the
// division; the rest divide what remains, which only raises λ. Weights are whole
// numbers up to 100, so the division is settled after as many rounds at most.
func level(spare float64, shares []Share) float64 {
	full := float64(weightMost + 1) // the least weight that is served in full
	for {
		remains, weighted := spare, 0.0
		for i := range shares {
			s := &shares[i]
			more := float64(s.want() - s.base())
			if s.weight() >= full {
				remains -= more
			} else {
				weighted += more * s.weight()
			}
		}
		if weighted == 0 {
			return 1 / full
		}
		per := max(remains, 0) / weighted
		if 1/per >= full {
			return per
		}
		full = 1 / per
	}
}

func (s *Share) want() knowledge.NanoCPU { return min(max(s.Want, 0), knowledge.MaxCPU) }

func (s *Share) base() knowledge.NanoCPU { return min(max(s.Min, 0), s.want()) }

func (s *Share) weight() float64 { return float64(min(max(s.Weight, weightMin), weightMost)) }
