package plan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// ReplicasMost bounds the replicas of one service on one host in a report.
	ReplicasMost = 256
	// absurdCPU is how far above the host's cores a figure may be: clocks of two
	// readings never agree to the microsecond.
	absurdCPU = 1.1
	// everyMost is the longest interval of reports that a configuration allows.
	everyMost = 10 * time.Minute
	// textMost and allowMost bound the strings in a report.
	textMost, allowMost = 128, 64
)

// Report is a host's message to a service's owners about its replicas: the limits in
// force, and what was learned. It is complete; a newer one replaces it.
type Report struct {
	Service  knowledge.ServiceKey
	Host     knowledge.NodeID
	Version  knowledge.Version
	CPUs     int             // of the host
	Memory   knowledge.Bytes // of the host
	Every    time.Duration   // until the next one
	Replicas []Reported
}

// Reported is one replica in a report.
type Reported struct {
	ID     knowledge.ContainerID
	Policy knowledge.Policy
	Facts  Facts
	// Envelope is the one in force, and Stood how long it has been: the instant at
	// which it was set is another clock's.
	Envelope knowledge.Envelope
	Stood    time.Duration
	// Quota, Limit and WorkingSet are as of now; 0: no limit.
	Quota             knowledge.NanoCPU
	Limit, WorkingSet knowledge.Bytes
}

// Check is an error for an invalid report. prev is the one before it of the same
// host; nil: none.
func (r *Report) Check(prev *Report) error {
	switch {
	case !knowledge.ValidService(r.Service):
		return fmt.Errorf("invalid service name %.40q", string(r.Service))
	case r.CPUs < 1 || r.CPUs > int(knowledge.MaxCPU/knowledge.OneCPU):
		return fmt.Errorf("invalid host: %d cores, allowed are 1 to %d", r.CPUs, int(knowledge.MaxCPU/knowledge.OneCPU))
	case r.Memory < 1 || r.Memory > knowledge.MaxBytes:
		return fmt.Errorf("invalid host: %d bytes of memory, allowed are 1 to %d", int64(r.Memory), int64(knowledge.MaxBytes))
	case r.Every < 0 || r.Every > everyMost:
		return fmt.Errorf("invalid report interval %v, allowed are up to %v", r.Every, everyMost)
	case len(r.Replicas) > ReplicasMost:
		return fmt.Errorf("too many replicas: %d, allowed are %d", len(r.Replicas), ReplicasMost)
	}
	before := map[knowledge.ContainerID]*Reported{}
	if prev != nil && prev.Version.Epoch == r.Version.Epoch {
		for i := range prev.Replicas {
			before[prev.Replicas[i].ID] = &prev.Replicas[i]
		}
	}
	for i := range r.Replicas {
		if err := r.Replicas[i].check(r, before[r.Replicas[i].ID]); err != nil {
			return fmt.Errorf("replica %.12s: %w", string(r.Replicas[i].ID), err)
		}
	}
	return nil
}

func (c *Reported) check(r *Report, prev *Reported) error {
	top, f := mostCPU(r.CPUs), &c.Facts
	for _, v := range [...]knowledge.NanoCPU{f.CPU, f.CPUMax, f.Threshold.Use, f.Threshold.Mean, c.Quota} {
		if v < 0 || v > top {
			return fmt.Errorf("invalid CPU figure: %s cores on a host of %d", v, r.CPUs)
		}
	}
	for _, v := range [...]knowledge.NanoCPU{f.Advice.CPU, f.Forecast.Upper, f.Image.CPU, f.Image.CPUMax} {
		if v < 0 || v > knowledge.MaxCPU {
			return fmt.Errorf("invalid CPU figure: %d nanocores", int64(v))
		}
	}
	for _, v := range [...]knowledge.Bytes{f.MemoryNeed, f.MemoryPeak, f.MemoryLimit, c.WorkingSet} {
		if v < 0 || v > r.Memory+r.Memory/10 {
			return fmt.Errorf("invalid memory figure: %s on a host of %s", v, r.Memory)
		}
	}
	for _, v := range [...]float64{
		f.Forecast.Level, f.Forecast.Coverage, f.Forecast.Gain, f.Advice.Margin, f.Advice.Waste, f.Threshold.Knee,
		c.Policy.ThrottleTarget,
		c.Policy.CPUPercentile,
		c.Policy.MemoryPercentile, c.Policy.CPUTarget, c.Policy.MemoryTarget,
	} {
		if math.IsNaN(v) || math.Abs(v) > 1e6 {
			return fmt.Errorf("invalid figure %g", v)
		}
	}
	p := &c.Policy
	switch {
	case len(c.ID) > textMost || len(f.Advice.Model) > textMost || len(p.Allow) > allowMost || len(p.Problems) > 0 ||
		len(p.CPUSource)+len(p.MemorySource) > 0:
		return errors.New("strings too long or too many")
	case slices.ContainsFunc(p.Allow, func(s string) bool { return len(s) > textMost }):
		return errors.New("strings too long or too many")
	case sanitized(c.Envelope.Reason) != c.Envelope.Reason || sanitized(c.Envelope.Forecast) != c.Envelope.Forecast ||
		sanitized(c.Envelope.Threshold) != c.Envelope.Threshold:
		return errors.New("invalid reason in an envelope")
	case p.CPU.Min < 0 || p.CPU.Max < 0 || p.CPU.Min > knowledge.MaxCPU || p.CPU.Max > knowledge.MaxCPU:
		return fmt.Errorf("invalid CPU bounds: %s to %s cores", p.CPU.Min, p.CPU.Max)
	case p.Memory.Min < 0 || p.Memory.Max < 0 || p.Memory.Min > knowledge.MaxBytes || p.Memory.Max > knowledge.MaxBytes:
		return fmt.Errorf("invalid memory bounds: %s to %s", p.Memory.Min, p.Memory.Max)
	case f.ObservedFor < 0 || c.Stood < 0:
		return fmt.Errorf("invalid duration %v", min(f.ObservedFor, c.Stood))
	case prev != nil && f.ObservedFor < prev.Facts.ObservedFor/2:
		return fmt.Errorf("observation time decreased from %[2]v to %[1]v", f.ObservedFor, prev.Facts.ObservedFor)
	}
	return nil
}

func mostCPU(cpus int) knowledge.NanoCPU {
	return knowledge.NanoCPU(float64(cpus) * absurdCPU * float64(knowledge.OneCPU))
}

// Plausible brings a host's own figures within Check: an estimate of demand may be
// above the host's cores.
func (c *Reported) Plausible(cpus int, memory knowledge.Bytes) {
	top, f := mostCPU(cpus), &c.Facts
	f.CPU, f.CPUMax, c.Quota = min(f.CPU, top), min(f.CPUMax, top), min(c.Quota, top)
	f.Threshold.Use, f.Threshold.Mean = min(f.Threshold.Use, top), min(f.Threshold.Mean, top)
	f.MemoryNeed, f.MemoryPeak, c.WorkingSet = min(f.MemoryNeed, memory), min(f.MemoryPeak, memory), min(c.WorkingSet,
		memory)
	f.MemoryLimit = min(f.MemoryLimit, memory)
}

// Declare is one deliberation of a service's owner: the envelopes of its replicas
// on one host, from the reports of all. What a replica's own host does not know of
// the service yet is taken from the others.
func Declare(now time.Time, reports []Report, host knowledge.NodeID) []knowledge.Assigned {
	i := slices.IndexFunc(reports, func(r Report) bool { return r.Host == host })
	if i < 0 {
		return nil
	}
	at := &reports[i]
	others := elsewhere(reports, host)
	out := make([]knowledge.Assigned, 0, len(at.Replicas))
	for j := range at.Replicas {
		c := &at.Replicas[j]
		facts := c.Facts
		if facts.NeedsImage() && others.ObservedFor > facts.Image.ObservedFor {
			facts.Image = others
		}
		prev := c.Envelope
		prev.At = now.Add(-c.Stood)
		e := Deliberate(now, facts, &c.Policy, knowledge.Host{CPUs: at.CPUs, Memory: at.Memory}, prev)
		out = append(out, knowledge.Assigned{ID: c.ID, Envelope: e})
	}
	return out
}

// elsewhere is the other hosts' knowledge of a service, as an Image: of three and
// more the median of each figure, so that a single malicious host cannot move it; of
// two the mean.
func elsewhere(reports []Report, host knowledge.NodeID) Image {
	var known []Facts
	for i := range reports {
		r := &reports[i]
		if r.Host == host || len(r.Replicas) == 0 {
			continue
		}
		longest := slices.MaxFunc(r.Replicas, func(a, b Reported) int {
			return cmp.Compare(a.Facts.ObservedFor,
				b.Facts.ObservedFor)
		})
		if longest.Facts.ObservedFor > 0 {
			known = append(known, longest.Facts)
		}
	}
	if len(known) == 0 {
		return Image{}
	}
	return Image{
		ObservedFor: middle(known, func(f *Facts) time.Duration { return f.ObservedFor }),
		CPU:         middle(known, func(f *Facts) knowledge.NanoCPU { return f.CPU }),
		CPUMax:      middle(known, func(f *Facts) knowledge.NanoCPU { return f.CPUMax }),
		MemoryNeed:  middle(known, func(f *Facts) knowledge.Bytes { return f.MemoryNeed }),
		MemoryPeak:  middle(known, func(f *Facts) knowledge.Bytes { return f.MemoryPeak }),
	}
}

func middle[T ~int64](known []Facts, figure func(*Facts) T) T {
	all := make([]T, len(known))
	for i := range known {
		all[i] = figure(&known[i])
	}
	slices.Sort(all)
	n := len(all)
	if n%2 == 1 {
		return all[n/2]
	}
	return all[n/2-1]/2 + all[n/2]/2
}

// Confine brings an envelope that another node declared inside what this host's own
// policy and size allow: nothing that comes over a wire reaches further.
func Confine(e knowledge.Envelope, p *knowledge.Policy, host knowledge.Host) knowledge.Envelope {
	top := least(p.CPU.Max, hostCPU(host), knowledge.MaxCPU)
	if p.CPUMode == knowledge.CPUWeight {
		top = hostCPU(host)
	}
	if e.CPU.Max <= 0 {
		e.CPU.Max = top
	}
	e.CPU.Max = under(max(e.CPU.Max, p.CPU.Min, floorCPU), top)
	e.CPU.Min = min(max(e.CPU.Min, p.CPU.Min, floorCPU), e.CPU.Max)
	if p.CPUMode == knowledge.CPUWeight {
		e.CPU.Min = p.CPU.Min
	}
	// These two follow from policy and host alone, not from the owner.
	e.MemoryCeiling, e.ThrottleTarget = memoryCeiling(p, host), p.ThrottleTarget
	e.MemoryFloor = under(max(e.MemoryFloor, p.Memory.Min, 0), e.MemoryCeiling)
	e.Memory = under(atLeast(e.Memory, p.Memory.Min), e.MemoryCeiling)
	e.FirstCPU = under(atLeast(e.FirstCPU, p.CPU.Min), e.CPU.Max)
	e.FirstMemory = under(atLeast(e.FirstMemory, p.Memory.Min), e.MemoryCeiling)
	e.LearnedCPU, e.ForecastCPU = under(max(e.LearnedCPU, 0), e.CPU.Max), under(max(e.ForecastCPU, 0), e.CPU.Max)
	e.ThresholdCPU, e.CutCPU = under(max(e.ThresholdCPU, 0), e.CPU.Max), under(max(e.CutCPU, 0), e.CPU.Max)
	e.Reason, e.Forecast, e.Threshold = sanitized(e.Reason), sanitized(e.Forecast), sanitized(e.Threshold)
	return e
}

// atLeast is v, or least where there is a smaller v; 0: there is none.
func atLeast[T ~int64](v, least T) T {
	if v <= 0 {
		return 0
	}
	return max(v, least)
}

// ruleMost bounds the name of a rule that another node gives.
const ruleMost = 64

// sanitized is another node's reason without invalid contents.
func sanitized(r knowledge.Reason) knowledge.Reason {
	if len(r.Rule) > ruleMost {
		return knowledge.Reason{}
	}
	if len(r.Note) > textMost {
		r.Note = ""
	}
	for i, v := range r.Args {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			r.Args[i] = 0
		}
	}
	return r
}

// Cuts reports whether an envelope allows less than the one in force: with
// attestation other nodes must have agreed to it.
func Cuts(next, prev *knowledge.Envelope) bool {
	return next.Memory < prev.Memory || next.MemoryFloor < prev.MemoryFloor || next.CPU.Min < prev.CPU.Min ||
		next.CPU.Max < prev.CPU.Max
}

// WithoutCuts is next with nothing in it below prev.
func WithoutCuts(next, prev knowledge.Envelope) knowledge.Envelope {
	next.Memory, next.MemoryFloor = max(next.Memory, prev.Memory), max(next.MemoryFloor, prev.MemoryFloor)
	next.CPU.Min, next.CPU.Max = max(next.CPU.Min, prev.CPU.Min), max(next.CPU.Max, prev.CPU.Max)
	return next
}
