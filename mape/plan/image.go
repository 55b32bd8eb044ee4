package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// imageLeast is the least observation of an image that another container of it
	// starts from: of less, little but a start was seen.
	imageLeast = 30 * time.Second
	// ownHalf is the age of a container's own history at which it counts half
	// against that of its image; from there to learnAfter it grows to all.
	ownHalf = 10 * time.Minute
)

// Image is the profile of containers of one image and command, on all hosts and in
// all services. The zero value: nothing is known.
type Image struct {
	ObservedFor            time.Duration
	CPU, CPUMax            knowledge.NanoCPU // as in Facts
	MemoryNeed, MemoryPeak knowledge.Bytes
}

// imageCoversStart reports whether a container may get its first limit from its image:
// others were watched as long as this one would have to be.
func (f *Facts) imageCoversStart(p *knowledge.Policy) bool {
	return f.NeedsImage() && f.Image.ObservedFor >= max(p.ObserveFirst, imageLeast)
}

// imageCoversFloors reports whether the image replaces the service's own history: a
// floor needs an hour of observation, of any service.
func (f *Facts) imageCoversFloors() bool {
	return f.NeedsImage() && f.Image.ObservedFor >= learnAfter
}

// ownShare is the weight of the service's own history in a floor: none at first, half
// after ten minutes, all after an hour.
func ownShare(observed time.Duration) float64 {
	if observed <= ownHalf {
		return 0.5 * max(observed.Seconds(), 0) / ownHalf.Seconds()
	}
	return min(0.5+0.5*(observed-ownHalf).Seconds()/(learnAfter-ownHalf).Seconds(), 1)
}

func mix[T ~int64](share float64, own, others T) T {
	return T(share*float64(own) + (1-share)*float64(others))
}

// withImage are the facts completed by the image's: CPU with a margin, since another
// service does not use exactly as much (memory gets its own for a short history), and
// memory never less than was observed.
func (f Facts) withImage() Facts {
	own := ownShare(f.ObservedFor)
	f.CPU = mix(own, f.CPU, scale(f.Image.CPU, wouldMargin))
	f.MemoryNeed = max(f.MemoryNeed, mix(own, f.MemoryNeed, f.Image.MemoryNeed))
	return f
}

// NeedsImage reports whether the service's own history is too short to do without
// that of its image.
func (f *Facts) NeedsImage() bool { return f.ObservedFor < learnAfter }

// Because is the reason of floors that come from the image.
func (i *Image) Because(f *Facts, p *knowledge.Policy) knowledge.Reason {
	return knowledge.Because(knowledge.RuleImage, i.ObservedFor.Seconds(), p.Percentile(), i.CPU.Cores(),
		1-ownShare(f.ObservedFor))
}

// setFirstLimits sets the limits of a container that has none yet: above the highest
// use of any container of its image, starts included. The reflex cuts what is too
// much.
func setFirstLimits(e *knowledge.Envelope, f *Facts, p *knowledge.Policy) {
	if !f.imageCoversStart(p) {
		return
	}
	if cpu := max(f.Image.CPUMax, f.CPUMax); cpu > 0 {
		e.FirstCPU = scale(cpu, wouldMargin)
	}
	if peak := max(f.Image.MemoryPeak, f.MemoryPeak); peak > 0 {
		e.FirstMemory = under(withMargin(peak, f.ObservedFor, p), e.MemoryCeiling)
	}
}
